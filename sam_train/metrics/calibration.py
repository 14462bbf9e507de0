"""Whether the IoU that a model predicts of its own masks is the IoU they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Bin:
    """Masks with about the same predicted IoU.

    Attributes:
        low: Least predicted IoU of the bin.
        high: Largest; of the last bin only, it belongs to the bin itself.
        count: Masks in it.
        predicted: Mean predicted IoU.
        true: Mean true IoU; larger than predicted where the model is too modest.
    """

    low: float
    high: float
    count: int
    predicted: float
    true: float


@dataclass(frozen=True)
class Calibration:
    """How reliable the predicted IoU is.

    Attributes:
        bins: The reliability curve: bins of equal width over [0, 1] that hold a mask.
        expected_error: Expected calibration error: the mean over masks of |mean predicted - mean true| of their bin
            (Guo et al. 2017, equation 3, with the true IoU in the place of being right or wrong); 0 is best.
        mean_squared_error: Mean of (predicted - true)², as the Brier score is for right or wrong; 0 is best.
        rank_correlation: Spearman's, in [-1, 1]: whether better masks are predicted to be better, which is what
            choosing among candidates takes; None where all predicted or all true values are the same.
    """

    bins: tuple[Bin, ...]
    expected_error: float
    mean_squared_error: float
    rank_correlation: float | None


def calibrate(predicted: Sequence[float], true: Sequence[float], num_bins: int = 10) -> Calibration:
    """Compare predicted with true IoU, mask by mask.

    Args:
        predicted: Predicted IoU of each mask; values beyond [0, 1], which some models give, are of the bin at that
            end, and are not cut off.
        true: True IoU of each mask.
        num_bins: Bins of equal width over [0, 1].
    """
    assert len(predicted) == len(true) > 0, "a predicted and a true IoU for each of some masks"
    ours, theirs = np.asarray(predicted, dtype=float), np.asarray(true, dtype=float)
    edges = np.linspace(0, 1, num_bins + 1)
    places = np.digitize(ours, edges[1:-1])
    bins = tuple(
        Bin(
            float(edges[place]),
            float(edges[place + 1]),
            int(inside.sum()),
            float(ours[inside].mean()),
            float(theirs[inside].mean()),
        )
        for place in range(num_bins)
        if (inside := places == place).any()
    )
    return Calibration(
        bins=bins,
        expected_error=sum(part.count * abs(part.predicted - part.true) for part in bins) / len(ours),
        mean_squared_error=float(np.square(ours - theirs).mean()),
        rank_correlation=_rank_correlation(ours, theirs),
    )


def _rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    from scipy.stats import spearmanr

    if min(np.ptp(ours), np.ptp(theirs)) == 0:
        return None
    result: Any = spearmanr(ours, theirs)  # whose type its stubs do not say
    return float(result.statistic)
