"""Images too large to be looked at whole: overlapping tiles, and objects put together across them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sam_train.inference.instances import Instances
from sam_train.inference.mask_filters import is_cut_off
from sam_train.inference.point_grids import Crop
from sam_train.inference.run_lengths import RunLengths

_MASKS_AT_ONCE = 32


def tiles(size: tuple[int, int], side: int, overlap: int) -> list[Crop]:
    """Return squares that cover an image, evenly spread, neighbors with at least this many pixels in common.

    Args:
        size: Height and width of the image.
        side: Of a tile; tiles are no larger than the image.
        overlap: In pixels, below ``side``.
    """

    def starts(length: int) -> list[int]:
        number = max(math.ceil((length - overlap) / (side - overlap)), 1) if length > side else 1
        return [round(index * (length - side) / max(number - 1, 1)) if number > 1 else 0 for index in range(number)]

    height, width = size
    return [Crop((x, y, min(x + side, width), min(y + side, height)), 0) for y in starts(height) for x in starts(width)]


def stitch(found: Sequence[tuple[Crop, Instances]], size: tuple[int, int], threshold: float) -> Instances:
    """Return the objects of an image from those of its tiles.

    Masks of two tiles are of one object if they are called the same and their IoU where the tiles overlap is above the
    threshold. Of an object's masks the best that no tile has cut off is kept or, if all are cut off, they are put
    together. A mask that is cut off and has no counterpart beyond is dropped, as crops' masks are in automatic mask
    generation.

    Args:
        found: Each tile and its masks, in the frame of the tile.
        size: Height and width of the image.
        threshold: Of the IoU.
    """
    starts = np.cumsum([0, *(len(masks) for _, masks in found)])
    group = list(range(int(starts[-1])))
    for (one, (crop, masks)), (other, (crop2, masks2)) in combinations(enumerate(found), 2):
        zone = _shared(crop, crop2)
        if zone is not None and len(masks) and len(masks2):
            same = _ious(_in_zone(masks, crop, zone), _in_zone(masks2, crop2, zone)) > threshold
            for i, j in same.nonzero().tolist():
                if masks.categories[i] == masks2.categories[j]:
                    _join(group, int(starts[one]) + i, int(starts[other]) + j)
    filled = [(crop, masks) for crop, masks in found if len(masks)]
    if not filled:
        return Instances.cat([], size)
    whole = [_in_image(crop, masks, size) for crop, masks in filled]
    cut = [is_cut_off(masks.boxes, crop.box, size) for (crop, _), masks in zip(filled, whole, strict=True)]
    groups = [_root(group, index) for index in group]
    return _one_each(Instances.cat(whole, size), torch.cat(cut).tolist(), groups)


def _one_each(masks: Instances, cut: list[bool], group: list[int]) -> Instances:
    """Return one mask of each group, best first."""
    members: dict[int, list[int]] = {}
    for index, of in enumerate(group):
        members.setdefault(of, []).append(index)
    parts = []
    for of_object in members.values():
        if uncut := [index for index in of_object if not cut[index]]:
            parts.append(masks.select(torch.tensor([max(uncut, key=lambda index: float(masks.scores[index]))])))
        elif len(of_object) > 1:
            parts.append(_union(masks.select(torch.tensor(of_object))))
    joined = Instances.cat(parts, masks.size)
    return joined.select(joined.scores.argsort(descending=True, stable=True))


def _union(pieces: Instances) -> Instances:
    """Return the pieces of one object as one mask, with the values of the best piece."""
    best = pieces.select(pieces.scores.argmax()[None])
    intervals = pieces.masks.intervals()
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    ends = np.maximum.accumulate(intervals[:, 1])
    begins = np.append(True, intervals[1:, 0] > ends[:-1])
    first = intervals[begins, 0]
    last = ends[np.append(begins[1:], True)]
    changes = np.stack([first, last], axis=1).ravel()
    changes = changes[changes < pieces.masks.size[0] * pieces.masks.size[1]]
    masks = RunLengths(changes, np.array([len(changes)]), pieces.masks.size)
    low, high = pieces.boxes[:, :2].amin(dim=0), pieces.boxes[:, 2:].amax(dim=0)
    return Instances(masks, torch.cat([low, high])[None], best.scores, best.categories)


def _in_image(crop: Crop, found: Instances, size: tuple[int, int]) -> Instances:
    """Return the masks of a tile in the frame of the image."""
    x0, y0, *_ = crop.box
    runs = [
        RunLengths.of(found.masks.select(some).masks(), size, (y0, x0))
        for some in np.array_split(np.arange(len(found)), math.ceil(len(found) / _MASKS_AT_ONCE))
    ]
    offset = torch.tensor([x0, y0, x0, y0])
    return Instances(RunLengths.cat(runs), found.boxes + offset, found.scores, found.categories)


def _shared(one: Crop, other: Crop) -> tuple[int, int, int, int] | None:
    (x0, y0, x1, y1), (u0, v0, u1, v1) = one.box, other.box
    left, top, right, bottom = max(x0, u0), max(y0, v0), min(x1, u1), min(y1, v1)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _in_zone(found: Instances, crop: Crop, zone: tuple[int, int, int, int]) -> Bool[Tensor, "n h w"]:
    x0, y0, *_ = crop.box
    left, top, right, bottom = zone
    parts = [
        found.masks.select(some).masks()[:, top - y0 : bottom - y0, left - x0 : right - x0]
        for some in np.array_split(np.arange(len(found)), math.ceil(len(found) / _MASKS_AT_ONCE))
    ]
    return torch.cat([part.contiguous() for part in parts])


def _ious(one: Bool[Tensor, "n h w"], other: Bool[Tensor, "m h w"]) -> Float[Tensor, "n m"]:
    a, b = (masks.flatten(1).float() for masks in (one, other))
    shared = a @ b.T
    union = a.sum(dim=1)[:, None] + b.sum(dim=1) - shared
    return torch.where(union > 0, shared / union, 0.0)


def _root(group: list[int], index: int) -> int:
    while group[index] != index:
        index = group[index]
    return index


def _join(group: list[int], one: int, other: int) -> None:
    a, b = _root(group, one), _root(group, other)
    group[max(a, b)] = min(a, b)
