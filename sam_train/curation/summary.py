"""What a scan says of all images together, in few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Shaped

from sam_train.curation.scan import Scan
from sam_train.data.sources.base import Split

SIDES = (0, 4, 8, 16, 32, 64, 128, 256)  # px in the model's input: where the classes of objects' sizes begin


class Counts(NamedTuple):
    """Objects of a split or of a category. Crowds are counted apart: they never train.

    Attributes:
        objects: How many, without crowds.
        crowds: How many regions of many things.
        too_small: How many objects ``loader.min_area`` leaves out.
        side: Side of a square of the median area in the model's input, in pixels; None where there is no object.
    """

    objects: int
    crowds: int
    too_small: int
    side: float | None


class SplitSummary(NamedTuple):
    """One split.

    Attributes:
        images: How many could be read.
        without: How many have no object, not counting crowds.
        sizes: Height and width of the smallest, the median and the largest image, by their area.
        counts: Of its objects.
    """

    images: int
    without: int
    sizes: tuple[tuple[int, int], ...]
    counts: Counts


class Summary(NamedTuple):
    """All of them.

    Attributes:
        splits: By name.
        categories: Of each category, its objects in each split and in all; the most frequent first.
        sides: How many objects are in each class of :data:`SIDES`.
    """

    splits: Mapping[Split, SplitSummary]
    categories: Mapping[str, tuple[Mapping[Split, int], Counts]]
    sides: Int[np.ndarray, "n"]


def summarize(scan: Scan, min_area: float) -> Summary:
    """Count images and objects.

    Args:
        scan: Of all splits.
        min_area: Pixels in the model's input below which an object is left out.
    """
    of_object = scan.images["split"][scan.objects["image"]]
    things = ~scan.objects["crowd"]
    num_things = np.bincount(scan.objects["image"][things], minlength=len(scan.images))
    splits: dict[Split, SplitSummary] = {}
    for number, name in enumerate(scan.splits):
        rows = scan.images["split"] == number
        counts = _count(scan.objects[of_object == number], min_area)
        splits[name] = SplitSummary(int(rows.sum()), int((num_things[rows] == 0).sum()), _sizes(scan, rows), counts)
    categories = {}
    frequency = np.bincount(scan.objects["category"], minlength=len(scan.categories))
    for number in (-frequency).argsort(kind="stable"):
        rows = scan.objects["category"] == number
        each = np.bincount(of_object[rows & things], minlength=len(scan.splits)).tolist()
        name = scan.categories[number]
        categories[name] = dict(zip(scan.splits, each, strict=True)), _count(scan.objects[rows], min_area)
    sides = np.sqrt(scan.objects["input_area"][things])
    return Summary(splits, categories, np.histogram(sides, [*SIDES, np.inf])[0])


def too_small(objects: Shaped[np.ndarray, "A"], min_area: float) -> Bool[np.ndarray, "A"]:
    """Return which objects are left out in training and evaluation, as :class:`.EvalDataset` does."""
    return ~objects["crowd"] & (objects["input_area"] < max(min_area, 1))


def _count(objects: Shaped[np.ndarray, "A"], min_area: float) -> Counts:
    areas = objects["input_area"][~objects["crowd"]]
    side = float(np.sqrt(np.median(areas))) if len(areas) else None
    return Counts(len(areas), len(objects) - len(areas), int(too_small(objects, min_area).sum()), side)


def _sizes(scan: Scan, rows: Bool[np.ndarray, "I"]) -> tuple[tuple[int, int], ...]:
    images = scan.images[rows]
    if not len(images):
        return ()
    order = (images["height"].astype(np.int64) * images["width"]).argsort(kind="stable")
    chosen = images[order[[0, len(order) // 2, -1]]]
    return tuple((int(height), int(width)) for height, width in zip(chosen["height"], chosen["width"], strict=True))
