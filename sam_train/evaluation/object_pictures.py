"""Pictures of single objects: the truth and its prompt, and what the untuned and the tuned model find."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from sam_train.data.loading.dataset import EvalDataset
from sam_train.inference.overlay import BACKGROUND_COLOR, BOX_COLOR, OBJECT_COLOR
from sam_train.inference.scoring import encode_all, predict_image
from sam_train.metrics.base import Metric
from sam_train.metrics.table import column_of
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.protocols import Protocol
from sam_train.structures import PointLabel, Prompts

if TYPE_CHECKING:
    import pyarrow as pa

_SIDE = 200  # pixels of a panel
_MARGIN = 0.4  # of the object's larger side, shown around it
_LEAST = 48  # pixels of the image that are shown at least
_MASK_COLOR = (0, 225, 255)


class ObjectScore(NamedTuple):
    """An object that is worth a look.

    Attributes:
        image: Id of its image.
        value: Its value in the image's label plane.
        untuned: Score of the untuned model's mask.
        tuned: Score of the tuned model's mask.
    """

    image: str
    value: int
    untuned: float
    tuned: float


def choose_objects(rows: pa.Table, metric: Metric, prompt: str, count: int) -> dict[str, list[ObjectScore]]:
    """Choose the objects with the best and the worst masks of the tuned model, and those that changed most.

    Args:
        rows: With the columns of the models ``untuned`` and ``tuned``.
        metric: What is compared.
        prompt: Kind of prompt.
        count: How many of each; of equals the first in order of image and object.
    """
    import pyarrow.compute as pc

    some = rows.filter(pc.field("prompt") == prompt)
    columns = ("image", "object", column_of(metric, "untuned"), column_of(metric, "tuned"))
    objects = [ObjectScore(*row) for row in zip(*(some.column(name).to_pylist() for name in columns), strict=True)]
    by_score = sorted(objects, key=lambda one: metric.gain(0, one.tuned))
    by_change = sorted(objects, key=lambda one: -abs(one.tuned - one.untuned))
    return {
        "most changed": by_change[:count],
        "worst": by_score[:count],
        "best": by_score[::-1][:count],
    }


@torch.no_grad()
def draw_objects(
    models: Mapping[str, PromptableModel], dataset: EvalDataset, protocol: Protocol, objects: Sequence[ObjectScore]
) -> dict[tuple[str, int], str]:
    """Draw objects, image by image.

    Returns:
        Image id and value of each object to its picture as a data URI.
    """
    wanted: dict[str, list[int]] = {}
    for one in dict.fromkeys((one.image, one.value) for one in objects):
        wanted.setdefault(one[0], []).append(one[1])
    places = {name: index for index, name in enumerate(dataset.images.ids) if name in wanted}
    device = next(next(iter(models.values())).parameters()).device
    drawn = {}
    for name, values in wanted.items():
        batch = dataset[places[name]]
        assert batch.originals is not None
        truth = batch.originals[0]
        indices = torch.tensor([truth.value.tolist().index(value) for value in values])
        batch = batch.to(device)
        features = encode_all(models, batch)
        some = batch.with_objects(indices.to(device))
        found = {key: predict_image(model, features[key], some, 0, protocol) for key, model in models.items()}
        pixels = dataset.images.read(places[name]).image
        prompts = found["tuned"].prompts.to("cpu")
        prompts = Prompts(_in_image(prompts.points, models["tuned"], truth.size), prompts.labels)
        for index, (value, mask) in enumerate(zip(values, truth.keep(indices).masks(), strict=True)):
            masks = [mask, *(part.masks[index].cpu() for part in found.values())]
            drawn[name, value] = _uri(_draw(pixels, masks, prompts.of(slice(index, index + 1))))
    return drawn


def _in_image(points: Float[Tensor, "P N 2"], model: PromptableModel, size: tuple[int, int]) -> Float[Tensor, "P N 2"]:
    """From pixels of the model's input to those of the image."""
    return (points + 0.5) / model.preprocessing.scale_points(torch.ones(2), size)


def _draw(image: UInt8[Tensor, "3 h w"], masks: Sequence[Bool[Tensor, "h w"]], prompts: Prompts) -> Image.Image:
    """Panels beside each other, each the part of the image around the true mask with the outline of one mask."""
    top, left, side = _window(masks[0])
    sheet = Image.new("RGB", (len(masks) * (_SIDE + 4) - 4, _SIDE), (255, 255, 255))
    for place, mask in enumerate(masks):
        part = _cut(image, top, left, side)
        shown = Image.fromarray(part.permute(1, 2, 0).contiguous().numpy()).resize((_SIDE, _SIDE))
        inside = _cut(mask[None].byte(), top, left, side)[0] > 0
        shown = _outlined(shown, inside)
        if place == 0:
            _draw_prompts(ImageDraw.Draw(shown), prompts, (left, top), _SIDE / side)
        sheet.paste(shown, (place * (_SIDE + 4), 0))
    return sheet


def _window(mask: Bool[Tensor, "h w"]) -> tuple[int, int, int]:
    """Top, left and side of the square to show."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    (top, bottom), (left, right) = (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))
    side = max(round((max(bottom - top, right - left) + 1) * (1 + 2 * _MARGIN)), _LEAST)
    return (top + bottom + 1 - side) // 2, (left + right + 1 - side) // 2, side


def _cut(planes: Int[Tensor, "c h w"], top: int, left: int, side: int) -> Int[Tensor, "c side side"]:
    """Cut a square out; what lies beyond the image is 0."""
    height, width = planes.shape[1:]
    before = max(-left, 0), max(-top, 0)
    part = planes[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    padding = [before[0], side - before[0] - part.shape[2], before[1], side - before[1] - part.shape[1]]
    assert min(height, width) > 0
    return F.pad(part, padding)


def _outlined(shown: Image.Image, inside: Bool[Tensor, "s s"]) -> Image.Image:
    """Tint a mask lightly and draw its outline, light inside and dark outside: seen on any ground."""
    mask = F.interpolate(inside[None, None].float(), (_SIDE, _SIDE), mode="bilinear")[0, 0] > 0.5
    number = mask[None, None].float()
    inner = mask & (-F.max_pool2d(-number, 5, stride=1, padding=2)[0, 0] < 1)
    outer = ~mask & (F.max_pool2d(number, 3, stride=1, padding=1)[0, 0] > 0)
    pixels = torch.from_numpy(np.array(shown)).float()
    pixels = pixels.lerp(torch.tensor(_MASK_COLOR).float(), (0.15 * mask + 0.85 * inner)[..., None].clamp(max=1))
    return Image.fromarray((pixels * (1 - 0.7 * outer[..., None].float())).byte().numpy())


def _draw_prompts(draw: ImageDraw.ImageDraw, prompts: Prompts, corner: tuple[int, int], scale: float) -> None:
    points = ((prompts.points[0] - torch.tensor(corner)) * scale).tolist()
    labels = prompts.labels[0].tolist()
    box = [xy for xy, label in zip(points, labels, strict=True) if label >= PointLabel.BOX_TOP_LEFT]
    if len(box) == 2:
        (left, top), (right, bottom) = box
        draw.rectangle([left, top, max(right, left), max(bottom, top)], outline=BOX_COLOR, width=2)
    for (x, y), label in zip(points, labels, strict=True):
        if label in (PointLabel.OBJECT, PointLabel.BACKGROUND):
            color = OBJECT_COLOR if label == PointLabel.OBJECT else BACKGROUND_COLOR
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=color, outline=(0, 0, 0))


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
