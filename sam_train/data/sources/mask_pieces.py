"""Connected pieces of masks: pixels of one number that share a side or a corner. Two numbers never join."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer


class Counted(NamedTuple):
    """A mask and its numbers.

    Attributes:
        pixels: The number of each pixel.
        numbers: The numbers that are there, ascending.
        areas: Of how many pixels each is.
    """

    pixels: Integer[np.ndarray, "h w"]
    numbers: Int[np.ndarray, "n"]
    areas: Int[np.ndarray, "n"]


def count_numbers(pixels: Integer[np.ndarray, "h w"]) -> Counted:
    """Count the pixels of each number."""
    if pixels.dtype in (np.bool_, np.uint8) or 0 <= pixels.min() <= pixels.max() < pixels.size:
        areas = np.bincount(pixels.ravel())  # ten times as fast as sorting
        numbers = areas.nonzero()[0]
        return Counted(pixels, numbers, areas[numbers])
    return Counted(pixels, *np.unique(pixels, return_counts=True))


def number_pieces(pixels: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Return another number for each connected piece, counted from 1; 0 stays 0."""
    pieces = np.zeros(pixels.shape, np.int32)
    first = 0
    for _, box, there in regions(count_numbers(pixels)):
        found, count = _connected(there)
        pieces[box] += (found + first) * there
        first += count
    return pieces


def scattered(mask: Counted, least: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers whose pixels are many separate pieces of which none is the main one, and how many these are.

    Args:
        mask: A label image.
        least: Number of pieces that are many.
    """
    numbers, bounds = np.unique(mask.pixels[first_pixels(mask.pixels)], return_counts=True)
    for number, _, there in regions(mask, set(numbers[bounds >= least].tolist())):
        areas = np.bincount(_connected(there)[0].ravel())[1:]
        if len(areas) >= least and 2 * areas.max() < areas.sum():
            yield number, len(areas)


def count_scattered(mask: Counted, least: int) -> tuple[int, int, int]:
    """Return how many numbers are :func:`scattered`, the one with most pieces, and how many pieces these are."""
    found = [(pieces, number) for number, pieces in scattered(mask, least)]
    pieces, number = max(found, default=(0, 0))
    return len(found), number, pieces


def _connected(there: Bool[np.ndarray, "h w"]) -> tuple[Int[np.ndarray, "h w"], int]:
    """Return the piece of each pixel, counted from 1 in reading order, and how many pieces there are."""
    from scipy import ndimage

    pieces = np.empty(there.shape, np.int32)
    return pieces, int(ndimage.label(there, structure=np.ones((3, 3)), output=pieces))  # pyright: ignore[reportArgumentType]


def first_pixels(pixels: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return where no pixel of the same number is to the left or above, which is once at least in each piece."""
    padded = np.pad(pixels, ((1, 0), (1, 1)), constant_values=-1)
    is_first = np.ones(pixels.shape, bool)
    for beside in (padded[1:, :-2], padded[:-1, :-2], padded[:-1, 1:-1], padded[:-1, 2:]):
        is_first &= beside != pixels
    return is_first


def regions(
    mask: Counted, only: set[int] | None = None
) -> Iterator[tuple[int, tuple[slice, slice], Bool[np.ndarray, "_ _"]]]:
    """Yield each number above 0, the box around its pixels, and where in it they are."""
    from scipy import ndimage

    pixels, numbers, _ = mask
    names = {int(number): int(number) for number in numbers}
    if len(numbers) and numbers[-1] > pixels.size:  # as many boxes as numbers, not as the largest number
        pixels = np.searchsorted(numbers, pixels) + 1
        names = dict(enumerate(numbers.tolist(), start=1))
    wanted = [index for index, name in names.items() if name > 0 and (only is None or name in only)]
    boxes = ndimage.find_objects(pixels) if wanted else []
    for index in wanted:
        box = boxes[index - 1]
        yield names[index], box, pixels[box] == index
