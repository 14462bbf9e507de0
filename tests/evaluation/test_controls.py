"""The floor: what a box gives without a model."""

import cv2
import numpy as np
import pytest
import torch

from sam_train.data.loading.dataset import EvalDataset
from sam_train.evaluation.baselines import filled_box, from_box, otsu
from sam_train.evaluation.controls import score_baselines, summarize_controls
from sam_train.metrics import DICE, IOU
from sam_train.preprocessing import Preprocessing
from tests.data.samples import Squares
from tests.evaluation.reports import make_rows


def test_otsus_threshold_is_opencvs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        gray = rng.normal(90, 15, (30, 40))
        gray[8:22, 10:30] += rng.uniform(30, 90)
        pixels = np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
        _, bright = cv2.threshold(pixels[..., 0], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        assert np.array_equal(otsu(pixels), bright > 0)


def test_the_side_of_the_threshold_that_touches_the_edge_less_is_the_object():
    pixels = np.full((20, 20, 3), 200, np.uint8)
    pixels[5:15, 5:15] = 30
    assert np.array_equal(otsu(pixels), pixels[..., 0] == 30)
    assert otsu(np.full((4, 4, 3), 7, np.uint8)).all()


def test_a_filled_box_is_the_box_of_the_object_and_nothing_else():
    mask = torch.zeros(30, 40, dtype=torch.bool)
    mask[3:9, 5:25] = torch.rand(6, 20, generator=torch.Generator().manual_seed(0)) > 0.5
    mask[3, 5] = mask[8, 24] = True
    found = from_box(filled_box, torch.zeros(3, 30, 40, dtype=torch.uint8), mask)
    expected = torch.zeros_like(mask)
    expected[3:9, 5:25] = True
    assert torch.equal(found, expected)


def test_squares_are_found_without_a_model():
    dataset = EvalDataset(Squares(4), Preprocessing(image_size=64), min_area=1)
    rows = score_baselines(dataset, range(4), [DICE, IOU])
    assert rows.num_rows == 0 + 1 + 2 + 3
    controls = summarize_controls(make_rows(), rows, [DICE, IOU])
    assert controls["filled_box"] == {"dice": pytest.approx(1), "iou": pytest.approx(1)}
    assert controls["otsu"] == controls["filled_box"]  # all pixels of a square are equal
    assert "shuffled" not in controls
