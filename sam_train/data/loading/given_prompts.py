"""Boxes and points that came with the data, moved with their image and packed into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sam_train.preprocessing import Preprocessing
from sam_train.structures import PointLabel, Prompts


def corners(prompts: Prompts) -> Float[Tensor, "P N 4 2"]:
    """Return the four corners of the box that each slot belongs to; of a point four times the point.

    A box's bottom right corner is in the slot after its top left corner.
    """
    is_first, is_second = _box_slots(prompts)
    here = prompts.points
    other = torch.where(is_first, here.roll(-1, dims=1), torch.where(is_second, here.roll(1, dims=1), here))
    (x, y), (other_x, other_y) = here.unbind(-1), other.unbind(-1)
    return torch.stack([here, other, torch.stack([x, other_y], -1), torch.stack([other_x, y], -1)], dim=2)


def from_corners(prompts: Prompts, moved: Float[Tensor, "P N 4 2"], size: tuple[int, int]) -> Prompts:
    """Return prompts whose :func:`corners` were moved: a box becomes the box around its four corners.

    Boxes are cut off at the frame. Points and boxes outside are ``EMPTY``; a coordinate may exceed the frame by less
    than a pixel, as scaled coordinates of an image's last pixel do.

    Args:
        prompts: Before they were moved.
        moved: x, y in the new frame.
        size: Height and width of the new frame.
    """
    is_first, is_second = _box_slots(prompts)
    low, high = moved.aminmax(dim=2)
    frame = torch.tensor(size[::-1], dtype=moved.dtype)
    points = torch.where(is_second, high, low)
    points = torch.where(is_first | is_second, torch.minimum(points.clamp(min=0), frame), points)
    is_outside = ((low >= frame) | (high <= -1)).any(dim=-1)
    return replace(prompts, points=points, labels=prompts.labels.masked_fill(is_outside, PointLabel.EMPTY))


def resize_prompts(prompts: Prompts, preprocessing: Preprocessing, original_size: tuple[int, int]) -> Prompts:
    """Return prompts in pixels of the model's input for prompts in pixels of an image of this height and width."""
    moved = preprocessing.scale_points(corners(prompts), original_size)
    return from_corners(prompts, moved, preprocessing.resized_size(original_size))


def given_or_none(prompts: Prompts | None) -> Prompts | None:
    """Return the prompts, or None where no object has any."""
    return prompts if prompts is not None and (prompts.labels != PointLabel.EMPTY).any() else None


def pack_prompts(parts: Sequence[Prompts | None], num_objects: Sequence[int]) -> Prompts | None:
    """Return the points and boxes of all objects, rows filled up with ``EMPTY``; None where no part has any.

    Args:
        parts: Prompts of some of the objects after those of others.
        num_objects: Number of objects of each part.
    """
    given = [part for part in parts if part is not None]
    if not given:
        return None
    width = max(part.labels.shape[1] for part in given)
    dtype = given[0].points.dtype
    rows = []
    for part, count in zip(parts, num_objects, strict=True):
        part = part or Prompts(torch.zeros(count, 0, 2, dtype=dtype), torch.zeros(count, 0, dtype=torch.long))
        more = width - part.labels.shape[1]
        rows.append(Prompts(F.pad(part.points, (0, 0, 0, more)), F.pad(part.labels, (0, more), value=PointLabel.EMPTY)))
    return Prompts.cat(rows)


def _box_slots(prompts: Prompts) -> tuple[Tensor, Tensor]:
    labels = prompts.labels[..., None]
    return labels == PointLabel.BOX_TOP_LEFT, labels == PointLabel.BOX_BOTTOM_RIGHT
