"""Many masks as run lengths: the same as one by one through pycocotools."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.run_lengths import RunLengths

masks_of_any_size = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
@given(masks_of_any_size)
def test_masks_are_encoded_as_pycocotools_does(masks):
    runs = RunLengths.of(torch.from_numpy(masks))
    assert torch.equal(runs.masks(), torch.from_numpy(masks))
    assert runs.areas().tolist() == masks.sum((1, 2)).tolist()
    for rle, mask in zip(runs.rles(), masks, strict=True):
        expected = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle["counts"] == expected["counts"].decode()
        assert rle["size"] == [*mask.shape]


@given(masks_of_any_size, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_part_of_an_image_is_encoded_as_the_whole(masks, above, below, left, right):
    whole = np.pad(masks, ((0, 0), (above, below), (left, right)))
    part = RunLengths.of(torch.from_numpy(masks), whole.shape[1:], (above, left))
    assert list(part.lengths()) == list(RunLengths.of(torch.from_numpy(whole)).lengths())


@given(masks_of_any_size, st.lists(st.integers(0, 3), max_size=5))
def test_masks_are_selected_and_put_together(masks, chosen):
    chosen = np.array([index % len(masks) for index in chosen], int)
    runs = RunLengths.of(torch.from_numpy(masks))
    both = RunLengths.cat([runs.select(chosen), runs])
    assert torch.equal(both.masks(), torch.from_numpy(np.concatenate([masks[chosen], masks])))


@given(masks_of_any_size, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_box_around_a_mask_holds_all_of_it(masks, above, below, left, right):
    """Also where runs go on from the bottom of a column to the top of the next."""
    whole = torch.from_numpy(np.pad(masks, ((0, 0), (above, below), (left, right))))
    runs = RunLengths.of(whole)
    box = (left, above, left + masks.shape[2] - 1, above + masks.shape[1] - 1)
    for index, (mask, tight) in enumerate(zip(whole, mask_boxes(whole).tolist(), strict=True)):
        assert np.array_equal(runs.in_box(index, box), masks[index])
        assert np.array_equal(runs.in_box(index, (left, above, left, box[3])), masks[index][:, :1])  # some columns
        x0, y0, x1, y1 = tight
        assert np.array_equal(runs.in_box(index, tight), mask[y0 : y1 + 1, x0 : x1 + 1].numpy())


def test_no_masks_are_no_run_lengths():
    runs = RunLengths.of(torch.zeros(0, 3, 4, dtype=torch.bool))
    assert runs.rles() == []
    assert runs.masks().shape == (0, 3, 4)
