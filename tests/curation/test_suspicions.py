"""Each rule speaks of the masks that it says, and of no others."""

import numpy as np
import torch

from sam_train.curation.suspicions import Suspicion, suspect, unusual
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample

SIZE = (60, 80)


def suspicions(*masks):
    packed = pack_masks(enumerate((torch.from_numpy(mask) for mask in masks), start=1), SIZE)
    sample = Sample("a", torch.zeros(3, *SIZE, dtype=torch.uint8), *packed)
    return [Suspicion(int(value)) for value in suspect(sample)]


def disc(row=30, column=40, radius=12):
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_a_plain_object_is_not_suspected():
    assert suspicions(disc(), disc(10, 10, 6), disc(radius=20)) == [0, 0, 0]


def test_nearly_the_whole_image():
    mask = np.ones(SIZE, bool)
    mask[:2] = False
    assert suspicions(mask) == [Suspicion.WHOLE]


def test_background_touches_all_four_sides():
    assert suspicions(~disc()) == [Suspicion.FRAME]
    assert suspicions(~disc() & (np.arange(80) > 0)) == [0]


def test_many_pieces_of_which_none_is_the_main_one():
    specks = np.zeros(SIZE, bool)
    specks[10::10, 10::10] = True
    assert suspicions(specks) == [Suspicion.PIECES]
    assert suspicions(specks | disc()) == [0]


def test_a_box_instead_of_an_outline():
    box = np.zeros(SIZE, bool)
    box[10:18, 20:40] = True
    assert suspicions(box) == [Suspicion.RECTANGLE]
    box[10] = False  # seven rows
    assert suspicions(box) == [0]


def test_an_object_that_was_drawn_twice():
    other = disc()
    other[18] = False
    assert suspicions(disc(), disc(), disc(10, 10, 6)) == [Suspicion.TWICE, Suspicion.TWICE, 0]
    assert suspicions(disc(), other) == [Suspicion.TWICE, Suspicion.TWICE]
    assert suspicions(disc(), disc(radius=14)) == [0, 0]


def test_a_size_far_from_its_category():
    areas = np.array([1000] * 19 + [9, 11, 99_000, 101_000] + [5] * 19)
    category = np.array([1] * 23 + [0] * 19)
    found = unusual(areas, category)
    assert found.nonzero()[0].tolist() == [19, 22]
    assert found[[19, 22]].tolist() == [Suspicion.TINY, Suspicion.HUGE]
