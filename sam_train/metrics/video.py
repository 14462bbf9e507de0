"""Region similarity J and contour accuracy F of one object in a video, as the DAVIS challenges measure them.

Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", section 4. An
object that is not in a frame is one without a pixel there; pixels that are to be ignored are taken out of both masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sam_train.metrics.base import MaskPairs, Metric
from sam_train.metrics.crops import box_around
from sam_train.metrics.surface import SurfaceDistances, score_if_empty

TOLERANCE = 0.008  # of the frame's diagonal, rounded up to a pixel: as the DAVIS code has it


class Statistics(NamedTuple):
    """What becomes of a measure over the frames of an object.

    Attributes:
        mean: Over the frames.
        recall: Share of the frames with more than 0.5.
        decay: Mean of the first quarter less that of the last; quarters share the frames at which they meet.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True)
class VideoScores:
    """J and F of one object.

    Attributes:
        region: J of each frame, in [0, 1].
        boundary: F of each frame, in [0, 1].
    """

    region: tuple[float, ...]
    boundary: tuple[float, ...]

    def without_ends(self) -> VideoScores:
        """Leave out the first frame, which is often given, and the last, as the DAVIS challenges do."""
        return VideoScores(self.region[1:-1], self.boundary[1:-1])

    @property
    def j_and_f(self) -> float:
        """Mean of J and F over the frames."""
        return (statistics(self.region).mean + statistics(self.boundary).mean) / 2


def score_frames(frames: Iterable[tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]]) -> VideoScores:
    """Score an object's predicted and true masks, frame after frame; none is held."""
    scores = [(region_similarity(*masks), contour_accuracy(*masks)) for masks in frames]
    return VideoScores(tuple(region for region, _ in scores), tuple(boundary for _, boundary in scores))


def statistics(values: Sequence[float]) -> Statistics:
    """Mean, recall and decay of a measure over the frames of an object."""
    assert values, "a video has a frame that counts"
    array = np.asarray(values, dtype=float)
    # Halves are rounded up here, where numpy rounds them to the even number.
    ends = np.floor(np.linspace(0, len(values) - 1, 5) + 0.5).astype(int)
    first, last = (array[ends[quarter] : ends[quarter + 1] + 1] for quarter in (0, 3))
    return Statistics(float(array.mean()), float((array > 0.5).mean()), float(first.mean() - last.mean()))


def region_similarity(predicted: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """J = |A∩B| / |A∪B| in [0, 1]; 1 where both masks are empty, 0 where one is."""
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def contour_accuracy(predicted: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """F = 2PR / (P + R) in [0, 1]: contours that match within a disk of 0.008 of the frame's diagonal.

    P is the share of the predicted contour's pixels that have one of the true contour within the radius, R the share
    of the true contour's, likewise. A pixel is of the contour if its right, lower or lower right neighbor differs, so
    that the border of the frame is none. 1 where both masks are without contour, 0 where one is: empty, or the whole
    frame.
    """
    box = _with_margin(box_around(predicted, truth), truth.shape)
    contours = _contour(predicted[box]), _contour(truth[box])
    empty = score_if_empty(bool(contours[0].size), bool(contours[1].size), perfect=1.0, miss=0.0)
    if empty is not None:
        return empty
    distances = SurfaceDistances.between(*contours)
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    precision, recall = ((one <= radius).mean() for one in (distances.predicted, distances.truth))
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _with_margin(box: tuple[slice, slice], size: tuple[int, ...]) -> tuple[slice, slice]:
    """One pixel around, within the frame: where the contour may lie, and what it is compared with."""
    rows, columns = (
        slice(max(part.start - 1, 0), min(part.stop + 1, length)) for part, length in zip(box, size, strict=True)
    )
    return rows, columns


def _contour(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "n 2"]:
    """Rows and columns of pixels that differ from a neighbor to the right or below."""
    contour = np.zeros_like(mask)
    contour[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    contour[:-1] |= mask[:-1] != mask[1:]
    contour[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return np.stack(np.nonzero(contour), axis=1)


def _j(pairs: MaskPairs) -> Float[Tensor, "P"]:
    return torch.tensor([region_similarity(*masks) for masks in _arrays(pairs)], dtype=torch.double)


def _f(pairs: MaskPairs) -> Float[Tensor, "P"]:
    return torch.tensor([contour_accuracy(*masks) for masks in _arrays(pairs)], dtype=torch.double)


def _arrays(pairs: MaskPairs) -> Iterable[tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]]:
    return zip(pairs.predicted.cpu().numpy(), pairs.truth.cpu().numpy(), strict=True)


J = Metric("j", _j, title="J")
F = Metric("f", _f, title="F")
J_AND_F = Metric("j_and_f", lambda pairs: (_j(pairs) + _f(pairs)) / 2, title="J&F")
VIDEO_METRICS = (J, F, J_AND_F)
"""Of a mask on a frame; an object's score is the mean over its frames."""
