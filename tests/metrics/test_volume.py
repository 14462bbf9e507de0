"""Scores of volumes against MONAI's on the whole volume, and against the definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam_train.metrics.volume import VolumeScore
from tests.metrics import plain

SPACINGS = ((1.0, 1.0, 1.0), (5.0, 0.7, 0.9))


def score(predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]) -> VolumeScore:
    """Slices go through arrays that are written again, as a reader's may be."""
    volume = VolumeScore(spacing)
    held = np.empty((2, *truth.shape[1:]), bool)
    for ours, theirs in zip(predicted, truth, strict=True):
        held[0], held[1] = ours, theirs
        volume.add(held[0], held[1])
    return volume


def ellipsoids() -> tuple[np.ndarray, np.ndarray]:
    z, y, x = np.mgrid[:9, :40, :50]
    truth = (z - 4) ** 2 / 9 + (y - 20) ** 2 / 200 + (x - 25) ** 2 / 400 < 1
    return (z - 5) ** 2 / 9 + (y - 18) ** 2 / 260 + (x - 27) ** 2 / 300 < 1, truth


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # within MONAI itself
@pytest.mark.parametrize("spacing", SPACINGS)
def test_equal_monai_on_the_whole_volume(spacing):
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_dice import compute_surface_dice

    masks = ellipsoids()
    volume = score(*masks, spacing)
    one_hot = [torch.from_numpy(mask)[None, None].float() for mask in masks]
    options = {"include_background": True, "spacing": spacing}
    assert volume.dice() == pytest.approx(compute_dice(*one_hot).item())
    assert volume.hd95() == pytest.approx(compute_hausdorff_distance(*one_hot, percentile=95, **options).item())
    for tolerance in (0.8, 2.0):
        expected = compute_surface_dice(*one_hot, [tolerance], **options).item()
        assert volume.nsd(tolerance) == pytest.approx(expected)


@st.composite
def volumes(draw):
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    return tuple(draw(arrays(bool, shape, elements=st.booleans(), fill=st.booleans())) for _ in range(2))


@given(volumes(), st.sampled_from(SPACINGS))
def test_equal_the_definitions(masks, spacing):
    predicted, truth = masks
    volume = score(predicted, truth, spacing)
    assert volume.hd95() == pytest.approx(plain.hd95(predicted, truth, spacing), rel=1e-6)
    assert volume.nsd(1.0) == pytest.approx(plain.nsd(predicted, truth, spacing, 1.0))
    total = predicted.sum() + truth.sum()
    assert volume.dice() == pytest.approx(2 * (predicted & truth).sum() / total if total else 1.0)


def test_an_object_that_is_missed_in_the_volume_is_a_diagonal_off():
    _, truth = ellipsoids()
    missed = score(np.zeros_like(truth), truth, SPACINGS[1])
    assert (missed.dice(), missed.nsd(2.0)) == (0, 0)
    assert missed.hd95() == pytest.approx(math.hypot(9 * 5, 40 * 0.7, 50 * 0.9))
    nothing = score(np.zeros_like(truth), np.zeros_like(truth), SPACINGS[1])
    assert (nothing.dice(), nothing.nsd(2.0), nothing.hd95()) == (1, 1, 0)


def test_scores_so_far_can_be_had_at_any_slice():
    predicted, truth = ellipsoids()
    volume = VolumeScore(SPACINGS[1])
    for number, (ours, theirs) in enumerate(zip(predicted, truth, strict=True), start=1):
        volume.add(ours, theirs)
        whole = score(predicted[:number], truth[:number], SPACINGS[1])
        assert (volume.dice(), volume.nsd(1.0), volume.hd95()) == (whole.dice(), whole.nsd(1.0), whole.hd95())
