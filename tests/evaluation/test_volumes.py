"""Objects through volumes, with the spacing they have."""

import numpy as np
import pyarrow as pa
import pytest

from sam_train.data.sources.base import VolumeSlice
from sam_train.evaluation.volumes import score_volumes
from sam_train.metrics.rle import decode_mask, encode_mask
from sam_train.metrics.volume import TOLERANCE, VolumeScore


def make_rows(truth: np.ndarray, found: np.ndarray, spacing: tuple[float, float, float]):
    """Slices with the object of one volume, in another order than they lie."""
    rows, slices = [], {}
    for place in reversed(range(len(truth))):
        if truth[place].any():
            name = f"case/{place}"
            slices[name] = VolumeSlice("case", place, spacing)
            row = {"image": name, "object": 1, "prompt": "box", "category": "liver", "height": 40, "width": 30}
            masks = {"true_rle": truth[place], "tuned_rle": found[place], "untuned_rle": truth[place]}
            rows.append(row | {column: encode_mask(mask)["counts"] for column, mask in masks.items()})
    return pa.Table.from_pylist(rows), slices


def test_slices_are_put_together_as_they_lie_with_gaps_between():
    rng = np.random.default_rng(0)
    truth = np.zeros((7, 40, 30), bool)
    truth[1:3, 5:20, 5:20] = truth[5, 8:25, 5:15] = True
    found = np.roll(truth, 2, axis=1) & (rng.random(truth.shape) > 0.1) & truth.any((1, 2), keepdims=True)
    spacing = (5.0, 0.8, 0.7)
    rows, slices = make_rows(truth, found, spacing)
    scores = score_volumes(rows, slices, "box", ["untuned", "tuned"])
    whole = VolumeScore(spacing)
    for masks in zip(found, truth, strict=True):
        whole.add(*masks)
    assert scores["tuned"]["dice"] == pytest.approx(whole.dice())
    assert scores["tuned"]["nsd"] == pytest.approx(whole.nsd(TOLERANCE))
    assert scores["tuned"]["hd95"] == pytest.approx(whole.hd95())
    assert scores["untuned"] == {"dice": 1, "nsd": 1, "hd95": 0}
    assert (scores["num_objects"], scores["num_volumes"]) == (1, 1)


def test_images_that_are_no_slices_have_no_volumes():
    truth = np.ones((1, 40, 30), bool)
    rows, _ = make_rows(truth, truth, (1, 1, 1))
    assert score_volumes(rows, {}, "box", ["tuned"]) == {}
    assert (
        score_volumes(rows.drop_columns("true_rle"), {"case/0": VolumeSlice("case", 0, None)}, "box", ["tuned"]) == {}
    )


def test_run_lengths_are_read_as_they_are_written():
    mask = np.random.default_rng(1).random((13, 17)) > 0.5
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)
