"""Windows are the squares of a map in reading order."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_train.models.windows import merge_windows, partition_windows

sizes = {"batch": st.integers(1, 3), "height": st.integers(1, 9), "width": st.integers(1, 9), "side": st.integers(1, 5)}


@given(**sizes)
def test_windows_are_the_squares_of_the_padded_map(batch, height, width, side):
    x = torch.randn(batch, height, width, 2)
    padded = torch.zeros(batch, height + side, width + side, 2)
    padded[:, :height, :width] = x
    expected = [
        padded[image, row : row + side, column : column + side]
        for image in range(batch)
        for row in range(0, height, side)
        for column in range(0, width, side)
    ]
    assert torch.equal(partition_windows(x, side), torch.stack(expected))


@given(**sizes)
def test_merging_undoes_partitioning(batch, height, width, side):
    x = torch.randn(batch, height, width, 2)
    assert torch.equal(merge_windows(partition_windows(x, side), (height, width)), x)
