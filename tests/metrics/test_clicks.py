"""Numbers of clicks by the conventions of the published tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_train.metrics.clicks import is_failure, number_of_clicks, score_clicks
from tests.metrics.golden import golden, needs_golden

LISTS = st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=25), min_size=1, max_size=5)


@needs_golden
def test_clicks_are_counted_as_ritm_counts_them():
    noc = golden()["noc"]
    scores = score_clicks(noc["iou_lists"], noc["iou_thresholds"], noc["max_clicks"])
    for row, reached in enumerate(scores.reached):
        assert reached.threshold == noc["iou_thresholds"][row]
        assert [number_of_clicks(ious, reached.threshold) for ious in noc["iou_lists"]] == noc["per_sample_noc"][row]
        assert reached.noc == pytest.approx(noc["noc_mean"][row])
        assert reached.num_over_max == noc["num_over_max"][row]


@given(LISTS, st.sampled_from((0.5, 0.85)), st.integers(1, 22))
def test_equal_the_definition(objects, threshold, max_clicks):
    clicks, failures = [], 0
    for ious in objects:
        reached = [iou >= np.float32(threshold) for iou in ious]
        good = [number for number in range(1, max_clicks + 1) if number <= len(ious) and reached[number - 1]]
        clicks.append(min(good, default=max_clicks))
        failures += not good
    scores = score_clicks(objects, [threshold], max_clicks)
    assert (scores.reached[0].noc, scores.reached[0].failures) == (sum(clicks) / len(clicks), failures)
    curve = [sum(ious[min(number, len(ious) - 1)] for ious in objects) / len(objects) for number in range(max_clicks)]
    assert scores.curve == pytest.approx(curve)


def test_success_with_the_last_click_is_no_failure_but_counts_as_one_in_published_tables():
    late, never = [0.5] * 19 + [0.9], [0.5] * 20
    assert [number_of_clicks(ious, 0.9) for ious in (late, never)] == [20, 20]
    assert [is_failure(ious, 0.9) for ious in (late, never)] == [False, True]
    (reached,) = score_clicks([late, never], [0.9]).reached
    assert (reached.failures, reached.num_over_max) == (1, 2)


def test_an_iou_of_nine_tenths_reaches_nine_tenths_in_32_bits():
    assert number_of_clicks([0.25, float(np.float32(0.9)), 0.95], 0.9) == 2


def test_a_person_who_is_content_clicks_no_more():
    scores = score_clicks([[0.5, 0.95], [0.25]], max_clicks=4)
    assert scores.curve == pytest.approx([0.375, 0.6, 0.6, 0.6])
    assert [reached.noc for reached in scores.reached] == [3.0, 3.0]
