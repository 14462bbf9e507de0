"""A metric of your own: how much of each object is found."""

import torch

from sam_train.metrics.base import MaskPairs, Metric


def sensitivity(pairs: MaskPairs) -> torch.Tensor:
    """Share of the true pixels that the prediction covers, one number per object."""
    return (pairs.intersection / pairs.true_area.clamp(min=1)).float()


SENSITIVITY = Metric("sensitivity", sensitivity, higher_is_better=True, title="Sensitivity")
