"""Overlap of predicted and true regions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class RegionScores(NamedTuple):
    """Per object, in [0, 1]; 1 where both masks are empty."""

    dice: Float[Tensor, "P"]
    iou: Float[Tensor, "P"]


def region_scores(predicted: Bool[Tensor, "P h w"], truth: Bool[Tensor, "P h w"]) -> RegionScores:
    """Dice coefficient 2|A∩B| / (|A| + |B|) and intersection over union |A∩B| / |A∪B| of each pair of masks."""
    intersection = _areas(predicted & truth)
    total = _areas(predicted) + _areas(truth)
    union = total - intersection
    return RegionScores(
        dice=(2 * intersection / total).where(total > 0, 1.0).float(),
        iou=(intersection / union).where(union > 0, 1.0).float(),
    )


def _areas(masks: Bool[Tensor, "P h w"]) -> Float[Tensor, "P"]:
    """Pixels of each mask, one mask after the other: a sum over all at once first copies them as 64-bit numbers."""
    areas = [mask.count_nonzero() for mask in masks]
    return torch.stack(areas).double() if areas else torch.zeros(0, dtype=torch.double, device=masks.device)
