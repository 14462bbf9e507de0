"""Objects as regions of label planes: the algorithms.

A plane is an image of whole numbers; object i of an image is where ``labels[plane[i]] == value[i]``. Neighbors share a
plane, overlapping objects have planes of their own. A hundred objects are then one byte a pixel instead of a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer
from torch import Tensor


class Packed(NamedTuple):
    """Objects on label planes.

    Attributes:
        labels: The planes; 0 is background.
        plane: Per object, its plane.
        value: Per object, its value there.
    """

    labels: Integer[Tensor, "L h w"]
    plane: Int[Tensor, "P"]
    value: Int[Tensor, "P"]


def pack_masks(
    masks: Iterable[tuple[int, Bool[Tensor, "h w"]]], size: tuple[int, int], largest: int | None = None
) -> Packed:
    """Put masks that may overlap on as few label planes as one pass finds; masks without a pixel are left out.

    Args:
        masks: Per object its value, above 0 and used once, and its mask; one is looked at after the other.
        size: Height and width of the masks.
        largest: The largest value there can be, by which the planes' number of bytes is chosen; by default that of
            32-bit numbers.
    """
    dtype = next(
        kind for kind in (torch.uint8, torch.int16, torch.int32) if (largest or 1 << 30) <= torch.iinfo(kind).max
    )
    planes: list[Tensor] = []
    places, values = [], []
    for value, mask in masks:
        box = _box(mask)
        if box is None:
            continue
        there = mask[box]  # most objects are small, and looking at all pixels for each takes most of the time
        place = next((place for place, plane in enumerate(planes) if not plane[box][there].any()), len(planes))
        if place == len(planes):
            planes.append(torch.zeros(size, dtype=dtype))
        planes[place][box][there] = value
        places.append(place)
        values.append(value)
    labels = torch.stack(planes) if planes else torch.zeros(1, *size, dtype=dtype)
    return Packed(labels, torch.tensor(places, dtype=torch.long), torch.tensor(values, dtype=torch.long))


def _box(mask: Bool[Tensor, "h w"]) -> tuple[slice, slice] | None:
    """Return the rows and columns around a mask; None where it has no pixel."""
    pixels = mask.numpy()
    rows = np.flatnonzero(pixels.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(pixels[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def unpack_masks(
    labels: Integer[Tensor, "L h w"], plane: Int[Tensor, "P"], value: Int[Tensor, "P"]
) -> Bool[Tensor, "P h w"]:
    """One boolean mask per object."""
    if labels.device.type != "cpu":
        masks = [labels[place] == number for place, number in zip(plane.tolist(), value.tolist(), strict=True)]
        return torch.stack(masks) if masks else labels[:0] > 0
    # Zeros of numpy are memory that nobody has touched: where no object is, a mask takes neither time nor memory.
    masks = torch.from_numpy(np.zeros((len(value), *labels.shape[1:]), np.bool_))
    for of_plane, objects in _planes(labels, plane):
        values = value[objects].tolist()
        # One by one: all at once copies their planes and makes 64-bit numbers of them, 10 times as long.
        for index, number, box in zip(objects.tolist(), values, _boxes(of_plane, values), strict=True):
            torch.eq(of_plane[box], number, out=masks[index][box])
    return masks


def count_pixels(
    labels: Integer[Tensor, "L h w"], plane: Int[Tensor, "P"], value: Int[Tensor, "P"]
) -> Int[Tensor, "P"]:
    """Number of pixels of each object."""
    areas = torch.zeros_like(value)
    for of_plane, objects in _planes(labels, plane):
        areas[objects] = _areas(of_plane, value[objects].tolist())
    return areas


def find_boxes(
    labels: Integer[Tensor, "L h w"], plane: Int[Tensor, "P"], value: Int[Tensor, "P"]
) -> Int[Tensor, "P 4"]:
    """Return x0, y0, x1, y1 around each object, the last two the first column and row beyond it; zeros for none."""
    boxes = torch.zeros(len(value), 4, dtype=torch.long)
    for of_plane, objects in _planes(labels, plane):
        values = value[objects].tolist()
        for index, number, (rows, columns) in zip(objects.tolist(), values, _boxes(of_plane, values), strict=True):
            inside = of_plane[rows, columns] == number
            places = [inside.any(dim=dim).nonzero()[:, 0] for dim in (0, 1)]  # columns, then rows
            if len(places[0]):
                starts = torch.tensor([columns.start or 0, rows.start or 0])
                low, high = torch.tensor([[int(along[0]), int(along[-1]) + 1] for along in places]).T
                boxes[index] = torch.cat([low + starts, high + starts])
    return boxes


def _planes(
    labels: Integer[Tensor, "L h w"], plane: Int[Tensor, "P"]
) -> Iterator[tuple[Integer[Tensor, "h w"], Int[Tensor, "n"]]]:
    """Each plane and the indices of the objects on it."""
    return ((of_plane, (plane == place).nonzero()[:, 0]) for place, of_plane in enumerate(labels))


def _are_worth_a_pass(labels: Integer[Tensor, "h w"], values: Sequence[int]) -> bool:
    """Whether one pass over a plane for all values takes less time than a look for each, and no huge table."""
    return len(values) > 4 and max(int(labels.max()), *values) < labels.numel()


def _areas(labels: Integer[Tensor, "h w"], values: Sequence[int]) -> Int[Tensor, "n"]:
    if _are_worth_a_pass(labels, values):
        return torch.bincount(labels.flatten(), minlength=max(values) + 1)[list(values)]
    return torch.tensor([int((labels == value).count_nonzero()) for value in values], dtype=torch.long)


def _boxes(labels: Integer[Tensor, "h w"], values: Sequence[int]) -> list[tuple[slice, slice]]:
    """Slices around the pixels of each value, or the whole plane."""
    if not _are_worth_a_pass(labels, values):
        return [(slice(None), slice(None))] * len(values)
    from scipy import ndimage

    found = ndimage.find_objects(labels.numpy(), max(values))
    return [found[value - 1] or (slice(0), slice(0)) for value in values]
