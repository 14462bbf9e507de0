"""J and F against the official DAVIS code's numbers and their definition."""

import math
import statistics as standard

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam_train.metrics.video import VideoScores, contour_accuracy, region_similarity, score_frames, statistics
from tests.metrics.golden import each_pair, golden, masks_of, needs_golden, unpack


@needs_golden
@each_pair()
def test_j_and_f_are_those_of_the_davis_code(pair):
    masks = masks_of(pair)
    assert region_similarity(*masks) == pytest.approx(pair["J"])
    assert contour_accuracy(*masks) == pytest.approx(pair["F"])


@needs_golden
@each_pair()
def test_pixels_to_ignore_are_taken_out_of_both_masks(pair):
    void = np.arange(pair["width"]) < pair["width"] // 4
    masks = [mask & ~void for mask in masks_of(pair)]
    assert region_similarity(*masks) == pytest.approx(pair["J_with_void_left_quarter"])
    assert contour_accuracy(*masks) == pytest.approx(pair["F_with_void_left_quarter"])


@needs_golden
@pytest.mark.parametrize("number", ["1", "2"])
def test_a_clip_scores_as_in_the_davis_code(number):
    clip = golden()["clip"]
    shape = clip["frames"], clip["height"], clip["width"]
    scores = score_frames(zip(*(unpack(clip[side][number], *shape) for side in ("prediction", "gt")), strict=True))
    for expected, found in (
        (clip["all_frames"], scores),
        (clip["without_first_and_last_frame"], scores.without_ends()),
    ):
        assert found.region == pytest.approx(expected["per_frame_J"][number])
        assert found.boundary == pytest.approx(expected["per_frame_F"][number])
        assert 100 * statistics(found.region).mean == pytest.approx(expected["J"][number])
        assert 100 * statistics(found.boundary).mean == pytest.approx(expected["F"][number])
        assert 200 * found.j_and_f == pytest.approx(expected["J"][number] + expected["F"][number])


def plain_contour(mask: np.ndarray) -> list[tuple[int, int]]:
    """Pixels of which one of the three neighbors to the right and below differs, where the frame has them."""
    height, width = mask.shape
    steps = ((0, 1), (1, 0), (1, 1))
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if any(
            y + down < height and x + right < width and mask[y, x] != mask[y + down, x + right] for down, right in steps
        )
    ]


def plain_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    ours, theirs = plain_contour(predicted), plain_contour(truth)
    if not ours or not theirs:
        return float(not ours and not theirs)
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    precision, recall = (
        sum(any(math.dist(point, other) <= radius for other in others) for point in points) / len(points)
        for points, others in ((ours, theirs), (theirs, ours))
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@st.composite
def frames(draw):
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    margins = draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2))
    masks = [draw(arrays(bool, shape, elements=st.booleans(), fill=st.booleans())) for _ in range(2)]
    return [np.pad(mask, margins) for mask in masks]


@given(frames())
def test_f_equals_its_definition_wherever_in_the_frame_the_object_is(masks):
    assert contour_accuracy(*masks) == pytest.approx(plain_f(*masks))


def test_statistics_over_frames():
    found = statistics([1.0, 0.75, 0.5, 0.25, 0.0])
    assert found == (0.5, 0.4, pytest.approx((1.0 + 0.75) / 2 - (0.25 + 0.0) / 2))
    assert statistics([0.75]) == (0.75, 1.0, 0.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_decay_compares_the_first_quarter_with_the_last(values):
    # The DAVIS code's own bounds, in whole numbers: the k-th is at 1 + k (n - 1) / 4, halves up, counted from 1.
    ends = [(2 * part * (len(values) - 1) + 4) // 8 for part in range(5)]
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    assert statistics(values).decay == pytest.approx(standard.fmean(first) - standard.fmean(last), abs=1e-12)


def test_j_and_f_is_the_mean_of_both():
    assert VideoScores((1.0, 0.5), (0.5, 0.5)).j_and_f == 0.625
