"""Overlap of predicted and true regions."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sam_train.metrics.base import MaskPairs, Metric


def dice(pairs: MaskPairs) -> Float[Tensor, "P"]:
    """Dice coefficient 2|A∩B| / (|A| + |B|) in [0, 1]; 1 where both masks are empty."""
    total = pairs.predicted_area + pairs.true_area
    return (2 * pairs.intersection / total).where(total > 0, 1.0).float()


def iou(pairs: MaskPairs) -> Float[Tensor, "P"]:
    """Intersection over union |A∩B| / |A∪B| in [0, 1]; 1 where both masks are empty."""
    union = pairs.predicted_area + pairs.true_area - pairs.intersection
    return (pairs.intersection / union).where(union > 0, 1.0).float()


DICE = Metric("dice", dice, title="Dice")
IOU = Metric("iou", iou, title="IoU")
