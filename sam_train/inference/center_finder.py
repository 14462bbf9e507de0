"""Objects without a prompt: a head says where and what, the decoder draws them, and doubles are left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sam_train.centers import CenterMaps
from sam_train.inference.images import EncodedImages, encode_pixels
from sam_train.inference.instances import Instances
from sam_train.inference.point_grids import Crop
from sam_train.inference.predictor import Predictor
from sam_train.inference.restoring import full_runs
from sam_train.models.center_head import CenterHead
from sam_train.structures import Prompts

MOST = 1000  # objects of an image or tile, the surest first: so many COCO's recall counts
LEAST = 0.1  # probability of a center; below, a decode is hardly ever worth it
OVERLAP = 0.6  # IoU above which two masks are of one object
_OBJECTS_AT_ONCE = 64


class Proposals(NamedTuple):
    """Where objects may be, the surest first.

    Attributes:
        boxes: x0, y0, x1, y1 of the first and last pixels, in the model's input.
        scores: Probability that an object has its center there.
        category: Number of the object's category.
    """

    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, "n"]
    category: Int[Tensor, "n"]


def peaks(heat: Float[Tensor, "C h w"], most: int, least: float) -> tuple[Float[Tensor, "n"], Int[Tensor, "n 3"]]:
    """Return the values that none of their eight neighbors exceeds, the highest first, and category, row and column.

    Args:
        heat: Logits or probabilities.
        most: How many at most.
        least: Lower ones are left out.
    """
    highest = F.max_pool2d(heat[None], 3, stride=1, padding=1)[0]
    is_peak = (heat == highest) & (heat >= least)
    values, places = heat[is_peak], is_peak.nonzero()
    order = values.argsort(descending=True, stable=True)[:most]
    return values[order], places[order]


def propose(maps: CenterMaps, image_size: int, valid_size: tuple[int, int]) -> Proposals:
    """Return the boxes that a head's maps of one image say.

    Args:
        maps: Of one image.
        image_size: Side of the model's input in pixels.
        valid_size: Height and width of its un-padded part; centers beyond are none.
    """
    heat, places = peaks(maps.heat[0].float(), MOST, math.log(LEAST / (1 - LEAST)))
    scores = heat.sigmoid()  # of which many are the same 1 where logits differ
    category, row, column = places.unbind(dim=1)
    extent = maps.size[0, :, row, column].T.float().exp()
    center = maps.offset[0, :, row, column].T.float() + torch.stack([column, row], dim=1)
    stride = image_size / maps.heat.shape[-1]
    boxes = torch.cat([center - extent / 2, center + extent / 2], dim=1) * stride
    height, width = valid_size
    last = boxes.new_tensor([width - 1, height - 1])
    inside = ((boxes[:, :2] + boxes[:, 2:]) / 2 <= last).all(dim=1)
    low = torch.minimum(boxes[:, :2].clamp(min=0), last)
    high = torch.maximum(torch.minimum(boxes[:, 2:] - 1, last), low)  # prompts name the last pixel, not the one after
    return Proposals(torch.cat([low, high], dim=1)[inside], scores[inside], category[inside])


class CenterFinder:
    """Finds the objects that a head was trained to find.

    Args:
        predictor: With the model that the head was trained beside.
        head: The head.
        categories: What its categories are called.
    """

    def __init__(self, predictor: Predictor, head: CenterHead, categories: Sequence[str]) -> None:
        self.predictor = predictor
        self.head = head.to(predictor.device).eval()
        self.categories = tuple(categories)
        self._cleaning = replace(predictor.cleaning, non_overlapping=False)

    @torch.no_grad()
    def find(self, pixels: UInt8[Tensor, "3 h w"]) -> Instances:
        """Return the objects of an image, best first.

        An object's score is the probability of its center times the model's own estimate of its mask's IoU.
        """
        size = pixels.shape[1], pixels.shape[2]
        preprocessing = self.predictor.model.preprocessing
        image = encode_pixels(self.predictor.model, [pixels])
        maps = self.head(image.features.to(next(self.head.parameters()).dtype))
        found = propose(maps, preprocessing.image_size, preprocessing.resized_size(size))
        return Instances.cat(self._drawn(image, found), size).distinct(OVERLAP)

    def _drawn(self, image: EncodedImages, found: Proposals) -> Iterator[Instances]:
        """Yield what the decoder draws in each box, a few at a time."""
        (size,) = image.sizes
        whole = Crop((0, 0, size[1], size[0]), 0)
        for some in torch.arange(len(found.boxes), device=found.boxes.device).split(_OBJECTS_AT_ONCE):
            if len(some):
                prompts, none = Prompts.from_boxes(found.boxes[some]), torch.zeros(len(some), dtype=torch.long)
                drawn = self.predictor.decode(image, prompts, none, None)
                preprocessing = self.predictor.model.preprocessing
                runs, boxes = full_runs(drawn.logits, preprocessing, whole, size, self._cleaning)
                scores = (found.scores[some] * drawn.iou[:, 0].float().clamp(0, 1)).cpu()
                names = tuple(self.categories[number] for number in found.category[some].tolist())
                yield Instances(runs, boxes, scores, names)
