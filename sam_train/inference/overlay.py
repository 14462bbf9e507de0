"""Pictures a person can look at: image, prompts and masks side by side."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import draw_segmentation_masks

from sam_train.structures import PointLabel, Preprocessing, Prompts

PANEL_SIDE = 320  # pixels of a panel's longer side
CAPTION_HEIGHT = 22
GAP = 6
OBJECT_COLOR, BACKGROUND_COLOR, BOX_COLOR = (60, 230, 90), (255, 70, 70), (255, 220, 50)


def object_colors(count: int) -> list[str | tuple[int, int, int]]:
    """Colours that neighbours in the list do not share: hues a golden angle apart."""
    hues = (0.61803398875 * index % 1.0 for index in range(count))
    return [tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.75, 1.0)) for hue in hues]  # pyright: ignore[reportReturnType]


def panel(
    image: UInt8[Tensor, "3 h w"],
    masks: Bool[Tensor, "P h w"] | None = None,
    prompts: Prompts | None = None,
    preprocessing: Preprocessing | None = None,
) -> Image.Image:
    """The image, an object to a colour, with the clicks (green object, red background) and boxes that led there.

    Args:
        image: At its original size.
        masks: Of its objects, at the same size.
        prompts: In the frame of the model's input.
        preprocessing: What that frame is; needed with prompts.
    """
    size = (image.shape[-2], image.shape[-1])
    if masks is not None and len(masks):
        seen = _small_on_top(masks)
        outlines = seen & ~_eroded(seen)
        colors = object_colors(len(masks))
        image = draw_segmentation_masks(image, seen, alpha=0.35, colors=colors)
        image = draw_segmentation_masks(image, outlines, alpha=0.9, colors=colors)
    scale = PANEL_SIDE / max(size)
    picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    picture = picture.resize((max(round(size[1] * scale), 1), max(round(size[0] * scale), 1)))
    if prompts is not None:
        assert preprocessing is not None
        one = preprocessing.scale_points(torch.ones(2), size)
        _draw_prompts(ImageDraw.Draw(picture), prompts, (prompts.points + 0.5) / one * scale)
    return picture


def _small_on_top(masks: Bool[Tensor, "P h w"]) -> Bool[Tensor, "P h w"]:
    """Each pixel to the smallest object there, so that parts are seen before their wholes."""
    seen = torch.zeros_like(masks)
    free = torch.ones_like(masks[0])
    for index in masks.flatten(1).sum(1).argsort(stable=True).tolist():
        seen[index] = masks[index] & free
        free &= ~masks[index]
    return seen


def _eroded(masks: Bool[Tensor, "P h w"]) -> Bool[Tensor, "P h w"]:
    width = max(round(max(masks.shape[-2:]) / PANEL_SIDE), 1)
    outside = (~masks)[:, None].float()
    return torch.nn.functional.max_pool2d(outside, 2 * width + 1, stride=1, padding=width)[:, 0] == 0


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
