"""Boundary metrics against their definitions, MONAI and the official Boundary IoU."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam_train.errors import InputError
from sam_train.metrics import BOUNDARY_IOU, HD95, METRICS, NSD
from sam_train.metrics.base import MaskPairs, find_metrics
from sam_train.metrics.boundary import boundary_iou, hausdorff_distance_95, hd95, nsd
from sam_train.metrics.crops import MaskCrop
from tests.metrics import plain
from tests.metrics.golden import each_pair, masks_of, needs_golden

SPACINGS = (None, (1.0, 1.0), (0.5, 0.8), (0.1, 0.3))
ALL = (*METRICS, *find_metrics(["nsd_0px", "nsd_1.5px"], METRICS))


@st.composite
def pairs_of_masks(draw):
    """Predicted and true mask of one size, often empty in places or everywhere."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 11)))
    return tuple(draw(arrays(bool, shape, elements=st.booleans(), fill=st.booleans())) for _ in range(2))


def pair(predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float] | None = None) -> MaskPairs:
    return MaskPairs(torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None], spacing)


def random_pairs(number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs, and the same blobs with errors along their outlines."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    field = np.stack([np.hypot(y - height * rng.random(), x - width * rng.random()) for _ in range(number)])
    noise = rng.normal(size=(2, *field.shape)).cumsum(-1).cumsum(-2) / 30
    return field + noise[0] < height / 3, field + noise[1] < height / 3


@given(pairs_of_masks(), st.sampled_from(SPACINGS), st.sampled_from((0.0, 1.0, 1.5, 3.0)))
def test_equal_the_definitions(masks, spacing, tolerance):
    unit = "px" if spacing is None else "mm"
    given_pair, size = pair(*masks, spacing), spacing or (1.0, 1.0)
    assert nsd(tolerance, unit)(given_pair).item() == pytest.approx(plain.nsd(*masks, size, tolerance))
    assert hd95(unit)(given_pair).item() == pytest.approx(plain.hd95(*masks, size), rel=1e-6)
    for ratio in (0.02, 0.2):
        assert boundary_iou(given_pair, ratio).item() == pytest.approx(plain.boundary_iou(*masks, ratio))


@given(pairs_of_masks(), st.tuples(*[st.integers(0, 5)] * 4), st.sampled_from(SPACINGS[1:]))
def test_cutting_to_the_box_around_both_masks_changes_nothing(masks, margins, spacing):
    top, bottom, left, right = margins
    predicted, truth = (np.pad(mask, ((top, bottom), (left, right))) for mask in masks)
    whole = pair(predicted, truth, spacing)
    vars(whole)["crops"] = (MaskCrop(predicted, truth, (0, 0), predicted.shape, spacing),)
    cut = pair(predicted, truth, spacing)
    (crop,) = cut.crops
    rows, columns = (np.flatnonzero((predicted | truth).any(axis)) for axis in (1, 0))
    assert crop.truth.shape == tuple(np.ptp(places) + 1 if places.size else 0 for places in (rows, columns))
    assert not rows.size or crop.corner == (rows[0], columns[0])
    for metric in (*ALL, hd95("mm"), nsd(0.3, "mm")):
        assert metric(cut).item() == pytest.approx(metric(whole).item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # within MONAI itself
@pytest.mark.parametrize("spacing", SPACINGS)
def test_equal_monai(spacing):
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice

    predicted, truth = map(torch.from_numpy, random_pairs(12, 50, 70))
    pairs, unit = MaskPairs(predicted, truth, spacing), "px" if spacing is None else "mm"
    one_hot = predicted[:, None].float(), truth[:, None].float()
    expected = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=spacing)[:, 0]
    assert (expected > 0).all()
    torch.testing.assert_close(hd95(unit)(pairs), expected)
    for tolerance in (0.5, 2.0):
        expected = compute_surface_dice(*one_hot, [tolerance], include_background=True, spacing=spacing)[:, 0]
        torch.testing.assert_close(nsd(tolerance, unit)(pairs), expected)


@needs_golden
@each_pair()
def test_boundary_iou_is_that_of_its_authors(pair):
    masks = MaskPairs(*(torch.from_numpy(mask)[None] for mask in masks_of(pair)))
    for ratio, key in ((0.02, "boundary_iou"), (0.005, "boundary_iou_ratio_0.005")):
        value = pair[key]["value"]
        assert boundary_iou(masks, ratio).item() == pytest.approx(1.0 if value is None else value)


def test_a_miss_is_the_worst_and_nothing_for_nothing_perfect():
    nothing = torch.zeros(1, 30, 40, dtype=torch.bool)
    corner, other = nothing.clone(), nothing.clone()
    corner[0, 0, 0], other[0, 29, 39] = True, True
    for predicted, truth in ((nothing, corner), (corner, nothing)):
        missed = MaskPairs(predicted, truth, (2.0, 0.5))
        assert (NSD(missed), BOUNDARY_IOU(missed), HD95(missed)) == (0, 0, 50)
        assert hausdorff_distance_95(missed, "mm").item() == pytest.approx(math.hypot(60, 20))
    both = MaskPairs(nothing, nothing, (2.0, 0.5))
    assert (NSD(both), BOUNDARY_IOU(both), HD95(both)) == (1, 1, 0)
    assert HD95(MaskPairs(corner, other)) < 50, "a mask at the wrong end is still better than none"


def test_one_distance_from_another_in_binary_fractions_is_within_the_tolerance():
    predicted = np.zeros((1, 20), bool)
    truth = predicted.copy()
    predicted[0, 7], truth[0, 10] = True, True  # 10 x 0.1 - 7 x 0.1 is a little more than 0.3
    assert nsd(0.3, "mm")(pair(predicted, truth, (0.1, 0.1))) == 1


def test_names_say_the_tolerance_and_its_unit():
    found = find_metrics(["nsd", "nsd_3px", "nsd_0.5mm", "hd95", "hd95_mm"], METRICS)
    assert [metric.name for metric in found] == ["nsd", "nsd_3px", "nsd_0.5mm", "hd95", "hd95_mm"]
    assert [metric.title for metric in found] == ["NSD (2 px)", "NSD (3 px)", "NSD (0.5 mm)", "HD95 (px)", "HD95 (mm)"]
    assert [metric.needs_spacing for metric in found] == [False, False, True, False, True]
    assert [metric.gain(1.0, 3.0) for metric in found] == [2, 2, 2, -2, -2]
    with pytest.raises(InputError, match="nearest: nsd_3px"):
        find_metrics(["nsd_3"], METRICS)
    with pytest.raises(InputError, match="a tolerance of -1 px"):
        nsd(-1)


def test_millimeters_without_a_spacing_are_refused():
    masks = torch.ones(1, 3, 3, dtype=torch.bool)
    for metric in find_metrics(["nsd_1mm", "hd95_mm"], METRICS):
        with pytest.raises(InputError, match="do not say how large their pixels are"):
            metric(MaskPairs(masks, masks))


def test_a_crop_gives_the_same_numbers_in_another_process():
    predicted, truth = map(torch.from_numpy, random_pairs(5, 60, 80))
    pairs = MaskPairs(predicted, truth, (0.5, 0.5))
    metrics = (*ALL, *find_metrics(["nsd_1mm", "hd95_mm"], METRICS))
    sent_metrics, crops = pickle.loads(pickle.dumps((metrics, pairs.crops)))
    for metric, sent in zip(metrics, sent_metrics, strict=True):
        assert metric(pairs).tolist() == [sent(MaskPairs.of(crop)).item() for crop in crops]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_masks_on_a_gpu_score_the_same():
    masks = [torch.from_numpy(mask) for mask in random_pairs(5, 60, 80)]
    masks = [torch.cat([mask, mask[:1], mask[:1] & False]) for mask in masks]
    for metric in ALL:
        assert torch.equal(metric(MaskPairs(*(mask.cuda() for mask in masks))), metric(MaskPairs(*masks)))
