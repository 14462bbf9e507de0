"""Attention without a bias for each pair of query and key equals attention with it."""

import pytest
import torch
from torch import Tensor

from sam_train.models.sam.relative_attention import MAX_SCORES, attend_in_chunks, attend_through_channels

FORMS = [attend_in_chunks, attend_through_channels]
SPLIT_QUERIES, SPLIT_HEADS, WHOLE = (2, 30, 40), (30, 14, 14), (3, 5, 4)


def plain(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(2)
    return (q @ k.transpose(1, 2) + bias).softmax(dim=-1) @ v


@pytest.mark.parametrize("attend", FORMS)
@pytest.mark.parametrize("sizes", [SPLIT_QUERIES, SPLIT_HEADS, WHOLE])
def test_value_and_gradients_are_those_of_the_plain_form(attend, sizes):
    count, height, width = sizes
    generator = torch.Generator().manual_seed(0)
    arguments = [
        torch.randn(count, height * width, channels, dtype=torch.double, generator=generator, requires_grad=True)
        for channels in (8, 8, 8, height, width)
    ]
    outputs = [form(*arguments) for form in (plain, attend)]
    direction = torch.randn(outputs[0].shape, dtype=torch.double, generator=generator)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-10, atol=1e-12)
    expected, actual = (torch.autograd.grad(output, arguments, direction) for output in outputs)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_the_tested_sizes_split_queries_and_heads():
    scores = [count * (height * width) ** 2 for count, height, width in (SPLIT_QUERIES, SPLIT_HEADS, WHOLE)]
    assert scores[0] / SPLIT_QUERIES[0] > MAX_SCORES
    assert scores[1] > MAX_SCORES > scores[2]
