"""Dice and IoU against their definition on sets, and MONAI."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_train.metrics import DICE, IOU
from sam_train.metrics.base import MaskPairs

PIXELS = st.sets(st.integers(0, 24))


def as_mask(pixels: set[int]) -> torch.Tensor:
    mask = torch.zeros(25, dtype=torch.bool)
    mask[list(pixels)] = True
    return mask.view(1, 5, 5)


@given(PIXELS, PIXELS)
def test_equals_the_definition_on_sets(predicted, truth):
    pairs = MaskPairs(as_mask(predicted), as_mask(truth))
    union = len(predicted | truth)
    assert abs(IOU(pairs).item() - (len(predicted & truth) / union if union else 1.0)) < 1e-7
    total = len(predicted) + len(truth)
    assert abs(DICE(pairs).item() - (2 * len(predicted & truth) / total if total else 1.0)) < 1e-7


def test_equals_monai():
    from monai.metrics.meandice import compute_dice

    generator = torch.Generator().manual_seed(0)
    predicted, truth = (torch.rand(6, 20, 30, generator=generator) > 0.7 for _ in range(2))
    expected = compute_dice(predicted[:, None].float(), truth[:, None].float())[:, 0]
    torch.testing.assert_close(DICE(MaskPairs(predicted, truth)), expected)
