"""A metric that the package does not have."""

import torch

from sam_train.metrics.base import MaskPairs, Metric


def area_error(pairs: MaskPairs) -> torch.Tensor:
    """How far the predicted area is off, as a share of the true one."""
    return ((pairs.predicted_area - pairs.true_area).abs() / pairs.true_area.clamp(min=1)).float()


AREA_ERROR = Metric("area_error", area_error, higher_is_better=False, title="area error")
NOT_A_METRIC = 3
