"""Pictures a person can look at: image, prompts and masks side by side."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sam_train.inference.interaction import encode
from sam_train.inference.scoring import mask_pairs, predict_parts
from sam_train.metrics.base import Metric
from sam_train.models.promptable import PromptableModel
from sam_train.preprocessing import Preprocessing
from sam_train.prompts.protocols import Protocol
from sam_train.structures import Batch, ImageFeatures, PointLabel, Prompts

PANEL_SIDE = 320  # pixels of a panel's longer side
CAPTION_HEIGHT = 22
GAP = 6
OBJECT_COLOR, BACKGROUND_COLOR, BOX_COLOR = (60, 230, 90), (255, 70, 70), (255, 220, 50)


def object_colors(count: int) -> list[tuple[int, ...]]:
    """Colors that neighbors in the list do not share: hues a golden angle apart."""
    hues = (0.61803398875 * index % 1.0 for index in range(count))
    return [tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.75, 1.0)) for hue in hues]


def paint(masks: Iterable[Bool[Tensor, "h w"]], size: tuple[int, int]) -> Int[Tensor, "h2 w2"]:
    """All objects on one plane for :func:`panel`, numbered from 1; the smallest has the pixels that several want.

    So parts are seen before their wholes. One mask is looked at after the other: they may come from a generator.

    Args:
        masks: Of the objects, in order.
        size: Of the masks.
    """
    rows, columns = (torch.arange(new) * old // new for old, new in zip(size, _canvas_size(size), strict=True))
    plane = torch.zeros(len(rows), len(columns), dtype=torch.long)
    owned_by = torch.full(plane.shape, torch.inf)  # how large the object is that is seen there
    for number, mask in enumerate(masks, start=1):
        area = float(mask.count_nonzero())
        wins = mask[rows.to(mask.device)][:, columns.to(mask.device)].cpu() & (area < owned_by)
        plane[wins], owned_by[wins] = number, area
    return plane


def panel(
    image: UInt8[Tensor, "3 h w"],
    objects: Int[Tensor, "h2 w2"] | None = None,
    prompts: Prompts | None = None,
    preprocessing: Preprocessing | None = None,
) -> Image.Image:
    """The image, an object to a color, with the clicks (green object, red background) and boxes that led there.

    Args:
        image: At its original size.
        objects: What :func:`paint` made of their masks at the same size.
        prompts: In the frame of the model's input.
        preprocessing: What that frame is; needed with prompts.
    """
    height, width = size = (image.shape[-2], image.shape[-1])
    picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    if objects is not None:
        picture = tinted(picture.resize((objects.shape[1], objects.shape[0])), objects)
    scale = PANEL_SIDE / max(size)
    picture = picture.resize((max(round(width * scale), 1), max(round(height * scale), 1)))
    if prompts is not None:
        assert preprocessing is not None
        one = preprocessing.scale_points(torch.ones(2), size)
        _draw_prompts(ImageDraw.Draw(picture), prompts, (prompts.points + 0.5) / one * scale)
    return picture


def _canvas_size(size: tuple[int, int]) -> tuple[int, int]:
    """What is painted on: the image's own size up to twice a panel's, which is then reduced and so smoothed."""
    scale = min(2 * PANEL_SIDE / max(size), 1)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def tinted(picture: Image.Image, objects: Int[Tensor, "h w"]) -> Image.Image:
    """Return a picture with each numbered object in a color of its own; 0 is none."""
    colors = torch.tensor([(0, 0, 0), *object_colors(int(objects.max()))], dtype=torch.float)[objects]
    strength = torch.where(_on_edge(objects), 0.93, 0.35) * (objects > 0)
    pixels = torch.from_numpy(np.array(picture)).float()
    return Image.fromarray(pixels.lerp(colors, strength[..., None]).round().byte().numpy())


def _on_edge(objects: Int[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Where something else is near."""
    from scipy import ndimage

    side = 2 * max(round(max(objects.shape) / PANEL_SIDE), 1) + 1
    numbers = objects.numpy().astype(np.int32)
    largest, smallest = (
        near(numbers, side, mode="nearest") for near in (ndimage.maximum_filter, ndimage.minimum_filter)
    )
    return torch.from_numpy(largest != smallest)


def prediction_panel(
    model: PromptableModel,
    features: ImageFeatures,
    batch: Batch,
    index: int,
    protocol: Protocol,
    image: UInt8[Tensor, "3 h w"],
    metrics: Sequence[Metric],
) -> tuple[Image.Image, str]:
    """Draw what a model finds in one image of a batch; beside it its mean scores over the objects in words.

    An object that the protocol cannot prompt is not in the picture.
    """
    assert batch.originals is not None
    truth = batch.originals[index]
    prompts: list[Prompts] = []
    scores: dict[str, list[float]] = {metric.title or metric.name: [] for metric in metrics}

    def found() -> Iterator[Bool[Tensor, "h w"]]:
        for objects, part in predict_parts(model, features, batch, index, protocol):
            prompts.append(part.prompts.to("cpu"))
            pairs = mask_pairs(part.masks, truth, objects)
            for metric, values in zip(metrics, scores.values(), strict=True):
                values.extend(metric(pairs).tolist())
            yield from part.masks

    objects = paint(found(), truth.size)
    if not prompts:
        return panel(image), "-"
    words = ", ".join(f"{title} {fmean(values):.2f}" for title, values in scores.items())
    return panel(image, objects, Prompts.cat(prompts), model.preprocessing), words


def validation_pictures(
    model: PromptableModel, batch: Batch, protocols: Mapping[str, Protocol], metrics: Sequence[Metric]
) -> list[Image.Image]:
    """Draw each image of a batch that has objects: the truth, and what the model finds by each kind of prompt."""
    assert batch.originals is not None
    assert batch.images is not None
    features = encode(model, batch)
    pictures = []
    for index, truth in enumerate(batch.originals):
        if not len(truth.value):
            continue
        height, width = batch.valid_size[index].tolist()
        pixels = batch.images[index : index + 1, :, :height, :width].float()
        shown = F.interpolate(pixels, truth.size, mode="bilinear")[0].byte().cpu()
        row = [("truth", panel(shown, paint(truth.each_mask(), truth.size)))]
        for name, protocol in protocols.items():
            row.append((name, prediction_panel(model, features, batch, index, protocol, shown, metrics)[0]))
        pictures.append(grid([row]))
    return pictures


def _draw_prompts(draw: ImageDraw.ImageDraw, prompts: Prompts, points: Tensor) -> None:
    for place, labels in zip(points.tolist(), prompts.labels.tolist(), strict=True):
        corners = [xy for xy, label in zip(place, labels, strict=True) if label >= PointLabel.BOX_TOP_LEFT]
        if corners:
            draw.rectangle([*corners[0], *corners[1]], outline=BOX_COLOR, width=1)
        for (x, y), label in zip(place, labels, strict=True):
            if label in (PointLabel.OBJECT, PointLabel.BACKGROUND):
                color = OBJECT_COLOR if label == PointLabel.OBJECT else BACKGROUND_COLOR
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=color, outline=(0, 0, 0))


def grid(rows: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """Captioned panels in rows."""
    height = max(picture.height for row in rows for _, picture in row) + CAPTION_HEIGHT
    width = max(picture.width for row in rows for _, picture in row)
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for y, row in enumerate(rows):
        for x, (caption, picture) in enumerate(row):
            left, top = x * (width + GAP), y * (height + GAP)
            draw.text((left + 2, top + 3), caption, fill=(30, 30, 30), font=font)
            sheet.paste(picture, (left, top + CAPTION_HEIGHT))
    return sheet
