"""Reliability of the predicted IoU against torchmetrics, scipy-free ranks and hand-made cases."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_train.metrics.calibration import calibrate

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40)


def test_right_or_wrong_is_the_case_that_torchmetrics_knows():
    from torchmetrics.functional.classification import binary_calibration_error

    rng = np.random.default_rng(0)
    predicted, true = rng.random(500).tolist(), (rng.random(500) < 0.6).astype(float).tolist()
    for num_bins in (10, 15):
        expected = binary_calibration_error(torch.tensor(predicted), torch.tensor(true).long(), num_bins)
        assert calibrate(predicted, true, num_bins).expected_error == pytest.approx(expected.item())


@given(PAIRS)
def test_equals_the_definition(pairs):
    predicted, true = zip(*pairs, strict=True)
    found = calibrate(predicted, true, num_bins=4)
    expected = 0.0
    for place in range(4):
        members = [pair for pair in pairs if min(int(pair[0] * 4), 3) == place]
        expected += abs(sum(ours - theirs for ours, theirs in members)) / len(pairs)
    assert found.expected_error == pytest.approx(expected, abs=1e-9)
    assert found.mean_squared_error == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / len(pairs))
    assert sum(part.count for part in found.bins) == len(pairs)


def ranks(values: list[float]) -> list[float]:
    """From 0, the mean of those that equal values share."""
    first = [sum(other < value for other in values) for value in values]
    return [rank + (values.count(value) - 1) / 2 for rank, value in zip(first, values, strict=True)]


@given(PAIRS)
def test_rank_correlation_is_that_of_the_ranks(pairs):
    predicted, true = map(list, zip(*pairs, strict=True))
    found = calibrate(predicted, true).rank_correlation
    if len(set(predicted)) == 1 or len(set(true)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(np.corrcoef(ranks(predicted), ranks(true))[0, 1], abs=1e-9)


def test_bins_say_where_the_model_is_too_sure():
    found = calibrate([0.5, 0.55, 0.95, 1.02], [0.5, 0.65, 0.75, 0.8])
    first, last = found.bins
    assert (first.low, first.high, first.count) == (0.5, pytest.approx(0.6), 2)
    assert (first.predicted, first.true) == (pytest.approx(0.525), pytest.approx(0.575))
    assert (last.low, last.high, last.count) == (0.9, 1.0, 2)
    assert (last.predicted, last.true) == (pytest.approx(0.985), pytest.approx(0.775))
    assert found.expected_error == pytest.approx((2 * 0.05 + 2 * 0.21) / 4)
