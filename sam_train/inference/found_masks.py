"""Masks that were found in an image, with all that is known of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sam_train.inference.mask_filters import distinct
from sam_train.inference.run_lengths import RunLengths

Form = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


@dataclass(frozen=True)
class FoundMasks:
    """Masks of one image; tensors are on the CPU.

    Attributes:
        masks: At the image's size.
        boxes: x0, y0, x1, y1 of the first and last pixels.
        iou: The model's own estimate of the mask's intersection over union with the truth.
        stability: IoU of the mask with itself at a higher and a lower threshold.
        points: The click that the mask was found by.
        crops: x0, y0, x1, y1 of the part of the image that it was found in.
    """

    masks: RunLengths
    boxes: Int[Tensor, "n 4"]
    iou: Float[Tensor, "n"]
    stability: Float[Tensor, "n"]
    points: Float[Tensor, "n 2"]
    crops: Int[Tensor, "n 4"]

    def __len__(self) -> int:
        return len(self.masks)

    def select(self, masks: Int[Tensor, "k"]) -> FoundMasks:
        """Return some of the masks, in this order."""
        return self._columns(lambda values: values[masks], self.masks.select(masks.numpy()))

    def distinct(self, threshold: float, scores: Float[Tensor, "n"] | None = None) -> FoundMasks:
        """Return the masks whose boxes no mask of a higher score overlaps by more than an IoU, best first.

        Args:
            threshold: The IoU.
            scores: By default :attr:`iou`.
        """
        return self.select(distinct(self.boxes, self.iou if scores is None else scores, threshold))

    @classmethod
    def cat(cls, parts: Sequence[FoundMasks]) -> FoundMasks:
        """Return the masks of all parts, in order."""
        columns = ("boxes", "iou", "stability", "points", "crops")
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in columns}
        return cls(RunLengths.cat([part.masks for part in parts]), **joined)

    @classmethod
    def none(cls, size: tuple[int, int]) -> FoundMasks:
        """Return no mask of an image of this height and width."""
        empty = np.zeros(0, np.int64)
        boxes, scores = torch.zeros(0, 4, dtype=torch.long), torch.zeros(0)
        return cls(RunLengths(empty, empty, size), boxes, scores, scores, torch.zeros(0, 2), boxes)

    def records(self, form: Form = "binary_mask") -> list[dict[str, Any]]:
        """Return a dictionary of each mask, with the keys of the original systems' automatic mask generation.

        ``bbox`` and ``crop_box`` are x, y, width and height.

        Args:
            form: Of ``segmentation``: an array of booleans, run lengths, or COCO's compressed run lengths.
        """
        height, width = self.masks.size
        if form == "binary_mask":
            segmentations: Sequence[Any] = list(self.masks.masks().numpy())
        elif form == "coco_rle":
            segmentations = self.masks.rles()
        else:
            segmentations = [{"size": [height, width], "counts": lengths} for lengths in self.masks.lengths()]
        columns = zip(
            segmentations,
            self.masks.areas().tolist(),
            _xywh(self.boxes),
            self.iou.tolist(),
            self.points.tolist(),
            self.stability.tolist(),
            _xywh(self.crops),
            strict=True,
        )
        names = ("segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box")
        found = [dict(zip(names, values, strict=True)) for values in columns]
        return [{**record, "point_coords": [record["point_coords"]]} for record in found]

    def _columns(self, change: Callable[[Tensor], Tensor], masks: RunLengths) -> FoundMasks:
        columns = ("boxes", "iou", "stability", "points", "crops")
        return replace(self, masks=masks, **{name: change(getattr(self, name)) for name in columns})


def _xywh(boxes: Int[Tensor, "n 4"]) -> list[list[int]]:
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
