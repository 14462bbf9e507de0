"""Intervals of a gain."""

import numpy as np
import pyarrow as pa
import pytest

from sam_train.evaluation.statistics import bootstrap_mean, difference
from sam_train.metrics import DICE


def test_an_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        effect = rng.normal(0.1, 0.2, 40)  # of each group: objects of a group are alike
        values = np.repeat(effect, 5) + rng.normal(0, 0.02, 200)
        found = bootstrap_mean(values, np.repeat(np.arange(40), 5))
        held += found.low <= 0.1 <= found.high
    assert 0.90 <= held / 200 <= 0.98


def test_groups_are_drawn_whole():
    values = np.repeat([0.0, 0.4, 0.1, 0.3], 50)
    alike = bootstrap_mean(values, np.repeat(np.arange(4), 50))
    alone = bootstrap_mean(values, np.arange(200))
    assert alike.mean == alone.mean == pytest.approx(0.2)
    assert alike.high - alike.low > 4 * (alone.high - alone.low)
    assert (alike.num_groups, alone.num_groups) == (4, 200)


def test_one_group_has_no_interval():
    found = bootstrap_mean([0.1, 0.3], [0, 0])
    assert (found.mean, found.low, found.high, found.is_sure) == (0.2, None, None, False)


def test_a_difference_is_of_the_same_objects_by_one_kind_of_prompt_and_repeats_to_the_last_digit():
    rows = pa.table(
        {
            "prompt": ["box"] * 4 + ["point"],
            "group": ["a", "a", "b", "c", "a"],
            "untuned_dice": [0.5, 0.6, 0.7, 0.8, 0.0],
            "tuned_dice": [0.6, 0.7, 0.9, 0.9, 1.0],
        }
    )
    found = difference(rows, DICE, "box")
    assert found.mean == pytest.approx(0.125)
    assert found.num_groups == 3
    assert found.is_sure
    assert found == difference(rows, DICE, "box")
