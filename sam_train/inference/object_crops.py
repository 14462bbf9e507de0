"""Pictures of one object: the part of the image around it, with its outline."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

SIDE = 200  # pixels of a picture
_MARGIN = 0.4  # of the object's larger side, shown around it
_LEAST = 48  # pixels of the image that are shown at least
_MASK_COLOR = (0, 225, 255)


def window_around(mask: Bool[Tensor, "h w"]) -> tuple[int, int, int]:
    """Top, left and side of the square to show."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    (top, bottom), (left, right) = (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))
    side = max(round((max(bottom - top, right - left) + 1) * (1 + 2 * _MARGIN)), _LEAST)
    return (top + bottom + 1 - side) // 2, (left + right + 1 - side) // 2, side


def cut(planes: Int[Tensor, "c h w"], top: int, left: int, side: int) -> Int[Tensor, "c side side"]:
    """Cut a square out; what lies beyond the image is 0."""
    height, width = planes.shape[1:]
    before = max(-left, 0), max(-top, 0)
    part = planes[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    padding = [before[0], side - before[0] - part.shape[2], before[1], side - before[1] - part.shape[1]]
    assert min(height, width) > 0
    return F.pad(part, padding)


def outlined(shown: Image.Image, inside: Bool[Tensor, "s s"]) -> Image.Image:
    """Tint a mask lightly and draw its outline, light inside and dark outside: seen on any ground."""
    mask = F.interpolate(inside[None, None].float(), (SIDE, SIDE), mode="bilinear")[0, 0] > 0.5
    number = mask[None, None].float()
    inner = mask & (-F.max_pool2d(-number, 5, stride=1, padding=2)[0, 0] < 1)
    outer = ~mask & (F.max_pool2d(number, 3, stride=1, padding=1)[0, 0] > 0)
    pixels = torch.from_numpy(np.array(shown)).float()
    pixels = pixels.lerp(torch.tensor(_MASK_COLOR).float(), (0.15 * mask + 0.85 * inner)[..., None].clamp(max=1))
    return Image.fromarray((pixels * (1 - 0.7 * outer[..., None].float())).byte().numpy())
