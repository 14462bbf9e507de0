"""What a box gives without any model: the floor that a model must beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from sam_train.metrics.crops import box_around

Baseline = Callable[[UInt8[np.ndarray, "h w 3"]], Bool[np.ndarray, "h w"]]
"""From the pixels inside an object's box to its mask there."""


def filled_box(pixels: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Take every pixel of the box."""
    return np.ones(pixels.shape[:2], bool)


def otsu(pixels: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Take the brighter or the darker pixels, whichever are fewer on the edge of the box; all, where all are equal.

    The threshold is Otsu's (1979): of all thresholds of the gray values (ITU-R 601 luma) the one with the largest
    variance between the two classes.
    """
    gray = np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    counts = np.bincount(gray.ravel(), minlength=256).astype(float)
    if np.count_nonzero(counts) < 2:
        return filled_box(pixels)
    below, total = counts.cumsum(), counts.sum()
    sums = (counts * np.arange(256)).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (sums[-1] * below - total * sums) ** 2 / (below * (total - below))
    bright = gray > np.nanargmax(between)
    edge = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    return bright if edge.mean() <= 0.5 else ~bright


BASELINES: Mapping[str, Baseline] = MappingProxyType({"filled_box": filled_box, "otsu": otsu})
"""By name; each is scored like a model, from tight boxes."""


def from_box(baseline: Baseline, image: UInt8[Tensor, "3 h w"], mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Apply a baseline to the tight box of a mask; there is nothing outside of it."""
    rows, columns = box_around(mask.numpy())
    found = torch.zeros_like(mask)
    if rows.stop > rows.start:
        pixels = np.ascontiguousarray(image[:, rows, columns].permute(1, 2, 0).numpy())
        found[rows, columns] = torch.from_numpy(baseline(pixels))
    return found
