"""Overlap of predicted and true regions."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class RegionScores(NamedTuple):
    """Per object, in [0, 1]; 1 where both masks are empty."""

    dice: Float[Tensor, "P"]
    iou: Float[Tensor, "P"]


def region_scores(predicted: Bool[Tensor, "P h w"], truth: Bool[Tensor, "P h w"]) -> RegionScores:
    """Dice coefficient 2|A∩B| / (|A| + |B|) and intersection over union |A∩B| / |A∪B| of each pair of masks."""
    intersection = (predicted & truth).flatten(1).sum(dim=1).double()
    union = (predicted | truth).flatten(1).sum(dim=1).double()
    total = intersection + union
    return RegionScores(
        dice=(2 * intersection / total).where(total > 0, 1.0).float(),
        iou=(intersection / union).where(union > 0, 1.0).float(),
    )
