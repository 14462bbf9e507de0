"""What makes a mask worth a look: a few rules, each stated to the person who reads of it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntFlag

import numpy as np
import torch
from jaxtyping import Bool, Int

from sam_train.data.sources.mask_pieces import count_numbers, regions, scattered
from sam_train.structures import Sample

MANY_PIECES = 5
MOST_OF_IMAGE = 0.95
TWICE_IOU, TWICE_PX = 0.95, 2  # of two outlines of one object that were drawn or exported twice
LEAST_SIDE = 8  # px; smaller rectangles happen
UNUSUAL, LEAST_OBJECTS = 100, 20  # times the median area, of a category of at least so many objects


class Suspicion(IntFlag):
    """Rules that masks may break; :data:`RULES` states them."""

    EMPTY = 1
    WHOLE = 2
    FRAME = 4
    PIECES = 8
    RECTANGLE = 16
    TWICE = 32
    TINY = 64
    HUGE = 128


RULES: dict[Suspicion, tuple[str, str]] = {
    Suspicion.EMPTY: ("empty masks", "objects of the data without a pixel in the image; they are left out"),
    Suspicion.WHOLE: ("nearly the whole image", f"a mask that covers more than {MOST_OF_IMAGE:.0%} of the image"),
    Suspicion.FRAME: ("all four sides", "a mask that touches all four sides of the image, as background does"),
    Suspicion.PIECES: ("many pieces", f"{MANY_PIECES} separate pieces or more, none of them half of the mask"),
    Suspicion.RECTANGLE: (
        "rectangles",
        f"a mask that fills its box, {LEAST_SIDE} pixels a side at least: a box instead of an outline?",
    ),
    Suspicion.TWICE: (
        "drawn twice",
        f"two masks of an image with an IoU of at least {TWICE_IOU}, their boxes at most {TWICE_PX} pixels apart",
    ),
    Suspicion.TINY: (
        "unusually small",
        f"less than a {UNUSUAL}th of the median area of its category (of at least {LEAST_OBJECTS} objects)",
    ),
    Suspicion.HUGE: (
        "unusually large",
        f"more than {UNUSUAL} times the median area of its category (of at least {LEAST_OBJECTS} objects)",
    ),
}
"""Of each rule its name and what it says."""


def suspect(sample: Sample) -> Int[np.ndarray, "P"]:
    """Return for each object the :class:`Suspicion` of its mask, all that one image can tell."""
    found = np.zeros(len(sample.value), np.int32)
    boxes = np.zeros((len(sample.value), 4))
    for plane, labels in enumerate(sample.labels.numpy()):
        objects = {int(sample.value[row]): row for row in (sample.plane == plane).nonzero()[:, 0].tolist()}
        counted = count_numbers(labels)
        for value, (rows, columns), there in regions(counted, set(objects)):
            found[objects[value]] |= _of_shape(there, (rows, columns), labels.shape)
            boxes[objects[value]] = rows.start, rows.stop, columns.start, columns.stop
        for value, _ in scattered(counted, MANY_PIECES):
            if value in objects:
                found[objects[value]] |= Suspicion.PIECES
    if len(sample.labels) > 1:  # those of one plane cannot overlap
        for one, other in _twice(sample, boxes):
            found[[one, other]] |= Suspicion.TWICE
    return found


def _of_shape(there: Bool[np.ndarray, "r c"], box: tuple[slice, slice], size: tuple[int, ...]) -> Suspicion:
    area = int(there.sum())
    if area > MOST_OF_IMAGE * size[0] * size[1]:
        return Suspicion.WHOLE
    found = Suspicion(0)
    sides = (there[0], there[-1], there[:, 0], there[:, -1])
    if there.shape == size and all(side.any() for side in sides):
        found |= Suspicion.FRAME
    if area == there.size and min(there.shape) >= LEAST_SIDE:
        found |= Suspicion.RECTANGLE
    return found


def _twice(sample: Sample, boxes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs of objects that are one: boxes first, which are few numbers, then masks."""
    from scipy.spatial import KDTree

    for one, other in sorted(KDTree(boxes).query_pairs(TWICE_PX, p=np.inf)):
        masks = sample.keep(torch.tensor([one, other])).masks()
        if (masks[0] & masks[1]).sum() >= TWICE_IOU * (masks[0] | masks[1]).sum():
            yield one, other


def unusual(areas: Int[np.ndarray, "n"], category: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Return the suspicion of masks whose area is far from the median of their category.

    Args:
        areas: Per object, its pixels at one common scale.
        category: Per object, the number of its category.
    """
    found = np.zeros(len(areas), np.int32)
    for number in np.unique(category):
        rows = np.flatnonzero(category == number)
        if len(rows) < LEAST_OBJECTS:
            continue
        middle = np.median(areas[rows])
        found[rows[areas[rows] * UNUSUAL < middle]] = Suspicion.TINY
        found[rows[areas[rows] > middle * UNUSUAL]] = Suspicion.HUGE
    return found
