"""Distances between the outlines of two masks, in images and in volumes, and the rule for masks without a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Real


def score_if_empty(is_predicted: bool, is_true: bool, perfect: float, miss: float) -> float | None:
    """Score a pair in which a mask has no pixel; None where both have some and the metric's formula holds.

    This is the one rule of all metrics: nothing found where nothing was to be found is perfect; an object that was
    missed, or found where there is none, scores the worst there is. (MONAI gives nan, which its means leave out, so
    that a model gains by missing what it cannot outline.)

    Args:
        is_predicted: Whether the predicted mask has a pixel.
        is_true: Whether the true mask has one.
        perfect: The metric's best value.
        miss: The metric's worst value.
    """
    if is_predicted and is_true:
        return None
    return miss if is_predicted or is_true else perfect


def edge_pixels(mask: Bool[np.ndarray, "*axes"]) -> Bool[np.ndarray, "*axes"]:
    """Pixels of a mask that share a side with background (of a volume: a face); what lies beyond the array is such."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis, length in enumerate(mask.shape):
        for shift in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(shift, shift + length)
            inside &= padded[tuple(window)]
    return mask & ~inside


def edge_points(mask: Bool[np.ndarray, "*axes"]) -> Real[np.ndarray, "n D"]:
    """Indices of the edge pixels of a mask, one row for each."""
    return np.stack(np.nonzero(edge_pixels(mask)), axis=1)


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the edges of a predicted and a true mask, in the unit of the points they were taken from.

    In 32-bit numbers, so that a distance of 3 x 0.1 mm is within a tolerance of 0.3 mm.

    Attributes:
        predicted: From each edge pixel of the predicted mask to the nearest one of the true mask; infinite where the
            true mask is empty.
        truth: From each edge pixel of the true mask to the nearest one of the predicted mask, likewise.
    """

    predicted: Float32[np.ndarray, "m"]
    truth: Float32[np.ndarray, "n"]

    @classmethod
    def between(cls, predicted: Real[np.ndarray, "m D"], truth: Real[np.ndarray, "n D"]) -> SurfaceDistances:
        """Measure between two sets of points."""
        return cls(_nearest(predicted, truth), _nearest(truth, predicted))

    def nsd(self, tolerance: float) -> float:
        """Compute the normalized surface distance: the share of both edges within ``tolerance`` of the other edge.

        (|{p: d(p, T) <= t}| + |{q: d(q, P) <= t}|) / (|P| + |T|) over the edge pixels P and T, in [0, 1] (Nikolov et
        al. 2018, who call it surface Dice; edges counted in pixels, Seidlitz et al. 2021); 1 where both masks are
        empty, 0 where one is.
        """
        empty = score_if_empty(bool(self.predicted.size), bool(self.truth.size), perfect=1.0, miss=0.0)
        if empty is not None:
            return empty
        within = np.count_nonzero(self.predicted <= tolerance) + np.count_nonzero(self.truth <= tolerance)
        return within / (self.predicted.size + self.truth.size)

    def hd95(self, diagonal: float) -> float:
        """Compute the 95th percentile Hausdorff distance: max(q95 of d(p, T), q95 of d(q, P)), linear between ranks.

        (Huttenlocher et al. 1993, with the percentile in each direction.) 0 where both masks are empty, the image's
        ``diagonal`` where one is, which is more than any other mask can be off.
        """
        empty = score_if_empty(bool(self.predicted.size), bool(self.truth.size), perfect=0.0, miss=diagonal)
        if empty is not None:
            return empty
        return float(max(np.quantile(self.predicted, 0.95), np.quantile(self.truth, 0.95)))


def _nearest(points: Real[np.ndarray, "m D"], others: Real[np.ndarray, "n D"]) -> Float32[np.ndarray, "m"]:
    from scipy.spatial import KDTree

    if not len(points) or not len(others):
        return np.full(len(points), np.inf, np.float32)
    # One query of a tree is quickest with leaves larger than the default of 10 points.
    return KDTree(others, leafsize=32).query(points)[0].astype(np.float32)
