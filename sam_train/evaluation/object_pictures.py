"""Pictures of single objects: the truth and its prompt, and what the untuned and the tuned model find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from sam_train.data.loading.dataset import EvalDataset
from sam_train.inference.object_crops import SIDE, cut, outlined, window_around
from sam_train.inference.overlay import BACKGROUND_COLOR, BOX_COLOR, OBJECT_COLOR
from sam_train.inference.scoring import encode_all, predict_image
from sam_train.metrics.base import Metric
from sam_train.metrics.table import column_of
from sam_train.models.promptable import PromptableModel
from sam_train.pages import picture_uri
from sam_train.prompts.protocols import Protocol
from sam_train.structures import PointLabel, Prompts

if TYPE_CHECKING:
    import pyarrow as pa


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
            drawn[name, value] = picture_uri(_draw(pixels, masks, prompts.of(slice(index, index + 1))))
    return drawn


def _in_image(points: Float[Tensor, "P N 2"], model: PromptableModel, size: tuple[int, int]) -> Float[Tensor, "P N 2"]:
    """From pixels of the model's input to those of the image."""
    return (points + 0.5) / model.preprocessing.scale_points(torch.ones(2), size)


def _draw(image: UInt8[Tensor, "3 h w"], masks: Sequence[Bool[Tensor, "h w"]], prompts: Prompts) -> Image.Image:
    """Panels beside each other, each the part of the image around the true mask with the outline of one mask."""
    top, left, side = window_around(masks[0])
    sheet = Image.new("RGB", (len(masks) * (SIDE + 4) - 4, SIDE), (255, 255, 255))
    for place, mask in enumerate(masks):
        part = cut(image, top, left, side)
        shown = Image.fromarray(part.permute(1, 2, 0).contiguous().numpy()).resize((SIDE, SIDE))
        inside = cut(mask[None].byte(), top, left, side)[0] > 0
        shown = outlined(shown, inside)
        if place == 0:
            _draw_prompts(ImageDraw.Draw(shown), prompts, (left, top), SIDE / side)
        sheet.paste(shown, (place * (SIDE + 4), 0))
    return sheet


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
