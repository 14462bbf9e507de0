"""Masks on label planes and back."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam_train.label_planes import count_pixels, pack_masks, unpack_masks


@given(arrays(np.bool_, st.tuples(st.integers(0, 8), st.just(5), st.just(7))), st.integers(0, 300))
def test_packing_then_unpacking_is_identity_whatever_overlaps(masks, offset):
    masks = torch.from_numpy(masks)
    values = [offset + 1 + index for index in range(len(masks))]
    packed = pack_masks(zip(values, masks, strict=True), (5, 7), largest=max(values, default=1))
    kept = masks.flatten(1).any(dim=1)
    assert packed.value.tolist() == torch.tensor(values, dtype=torch.long)[kept].tolist()
    assert unpack_masks(*packed).equal(masks[kept])
    assert count_pixels(*packed).tolist() == masks[kept].flatten(1).sum(dim=1).tolist()


def test_objects_that_do_not_overlap_share_a_plane_of_one_byte():
    masks = torch.eye(200, dtype=torch.bool).view(200, 10, 20)
    labels = pack_masks(enumerate(masks, start=1), (10, 20), largest=200).labels
    assert labels.shape == (1, 10, 20)
    assert labels.dtype == torch.uint8
