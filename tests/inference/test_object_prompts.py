"""Prompts as people give them: what fits is taken, what does not is named."""

import math

import numpy as np
import pytest
import torch

from sam_train.errors import InputError
from sam_train.inference.object_prompts import object_prompts, pack
from sam_train.preprocessing import Preprocessing
from sam_train.structures import PointLabel

SIZE = (60, 80)


def prompts(**given):
    return object_prompts(**given, size=SIZE, preprocessing=Preprocessing(160), mask_size=(40, 40))


def test_clicks_of_one_object_go_to_pixels_of_the_input():
    found = prompts(points=[[10, 20], [80, 60]], labels=[1, 0])
    assert found.points.tolist() == [[[20, 40], [160, 120]]]
    assert found.labels.tolist() == [[1, 0]]


def test_objects_may_have_different_numbers_of_clicks():
    found = prompts(points=[[[1, 2]], [[3, 4], [5, 6]]])
    assert found.labels.tolist() == [[1, PointLabel.EMPTY], [1, 1]]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_box_may_come_with_clicks(kind):
    found = prompts(boxes=kind([10, 10, 30, 40]), points=kind([[20, 20]]), labels=kind([1]))
    assert found.labels.tolist() == [[2, 3, 1]]
    assert found.points.tolist() == [[[20, 20], [60, 80], [40, 40]]]


def test_no_boxes_are_no_objects():
    assert prompts(boxes=np.zeros((0, 4))).points.shape == (0, 2, 2)
    assert prompts(boxes=[]).points.shape == (0, 2, 2)
    assert len(prompts(points=[]).points) == 0


def test_a_mask_alone_is_a_prompt():
    found = prompts(masks=torch.ones(3, 1, 40, 40))
    assert found.masks.shape == (3, 1, 40, 40)
    assert found.points.shape == (3, 0, 2)
    assert found.labels.shape == (3, 0)


def test_objects_of_several_images_are_packed():
    packed = pack([prompts(points=[[1, 1]]), prompts(boxes=[[1, 1, 9, 9]] * 2, masks=torch.ones(2, 40, 40))], (40, 40))
    assert packed.labels.tolist() == [[1, -1], [2, 3], [2, 3]]
    assert packed.has_mask.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no prompt"),
        ({"labels": [1]}, "labels without points"),
        ({"points": [[math.nan, 1]]}, "not finite"),
        ({"boxes": [1, 1, math.inf, 4]}, "not finite"),
        ({"points": [[81, 1]]}, r"point 0, \[81.0, 1.0\]: outside of the image of 60 x 80"),
        ({"points": [[1, -1]]}, "outside"),
        ({"boxes": [[1, 1, 2, 2], [90, 1, 95, 4]]}, r"box 1, .* outside"),
        ({"boxes": [9, 1, 2, 4]}, "second corner"),
        ({"boxes": [[1, 2, 3]]}, r"shape \(1, 3\); expected"),
        ({"points": [[1, 2, 3]]}, r"shape \(1, 3\); expected"),
        ({"points": [[1, 2]], "labels": [2]}, "labels: 2"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "give one for each"),
        ({"points": [[1, 2]], "boxes": [[1, 1, 2, 2]] * 2}, "prompts of 1 and 2 objects"),
        ({"masks": torch.ones(3, 3, 40, 40)}, r"expected \(P, 1, 40, 40\)"),
        ({"points": "here"}, "not numbers"),
    ],
)
def test_what_does_not_fit_is_named(given, words):
    with pytest.raises(InputError, match=words):
        prompts(**given)


def test_an_empty_slot_may_lie_anywhere():
    assert prompts(points=[[1, 1], [-9, -9]], labels=[1, -1]).labels.tolist() == [[1, -1]]
