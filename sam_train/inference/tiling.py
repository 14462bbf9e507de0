"""Images too large to be looked at whole: overlapping tiles, and objects put together across them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sam_train.inference.instances import Instances
from sam_train.inference.mask_filters import is_cut_off
from sam_train.inference.point_grids import Crop
from sam_train.inference.run_lengths import RunLengths


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
    for one, other, zone in _shared([crop for crop, _ in found]):
        (_, masks), (_, masks2) = found[one], found[other]
        for i, j in _alike(found[one], found[other], zone, threshold):
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
    whole, unions = list[int](), list[Instances]()
    for of_object in members.values():
        if uncut := [index for index in of_object if not cut[index]]:
            whole.append(max(uncut, key=lambda index: float(masks.scores[index])))
        elif len(of_object) > 1:
            unions.append(_union(masks.select(torch.tensor(of_object))))
    joined = Instances.cat([masks.select(torch.tensor(whole, dtype=torch.long)), *unions], masks.size)
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
    runs = []
    for index, (left, top, right, bottom) in enumerate(found.boxes.tolist()):
        mask = torch.from_numpy(found.masks.in_box(index, (left, top, right, bottom)))
        runs.append(RunLengths.of(mask[None], size, (y0 + top, x0 + left)))
    offset = torch.tensor([x0, y0, x0, y0])
    return Instances(RunLengths.cat(runs), found.boxes + offset, found.scores, found.categories)


def _shared(crops: Sequence[Crop]) -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
    """Yield which two tiles overlap, and where."""
    boxes = np.array([crop.box for crop in crops])
    for one, box in enumerate(boxes):
        low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
        for other in np.flatnonzero((low < high).all(axis=1)).tolist():
            if other > one:
                left, top, right, bottom = *low[other].tolist(), *high[other].tolist()
                yield one, other, (left, top, right, bottom)


def _alike(
    one: tuple[Crop, Instances], other: tuple[Crop, Instances], zone: tuple[int, int, int, int], threshold: float
) -> list[tuple[int, int]]:
    """Return which masks of two tiles have an IoU above the threshold in the zone that the tiles share."""
    (objects, masks), (objects2, masks2) = _in_zone(*one, zone), _in_zone(*other, zone)
    shared = masks @ masks2.T
    union = masks.sum(dim=1)[:, None] + masks2.sum(dim=1) - shared
    rows, columns = torch.where(union > 0, shared / union > threshold, False).nonzero(as_tuple=True)
    return [*zip(objects[rows].tolist(), objects2[columns].tolist(), strict=True)]


def _in_zone(
    crop: Crop, found: Instances, zone: tuple[int, int, int, int]
) -> tuple[Int[Tensor, "k"], Float[Tensor, "k q"]]:
    """Return which objects of a tile reach into a zone by their boxes, and their masks there."""
    x0, y0, *_ = crop.box
    left, top, right, bottom = window = zone[0] - x0, zone[1] - y0, zone[2] - x0, zone[3] - y0
    u0, v0, u1, v1 = found.boxes.unbind(dim=1)
    objects = ((u0 < right) & (u1 >= left) & (v0 < bottom) & (v1 >= top)).nonzero()[:, 0]
    masks = torch.zeros(len(objects), bottom - top, right - left)
    for mask, index in zip(masks, objects.tolist(), strict=True):
        mask.copy_(torch.from_numpy(found.in_window(index, window)))
    return objects, masks.flatten(1)


def _root(group: list[int], index: int) -> int:
    while group[index] != index:
        index = group[index]
    return index


def _join(group: list[int], one: int, other: int) -> None:
    a, b = _root(group, one), _root(group, other)
    group[max(a, b)] = min(a, b)
