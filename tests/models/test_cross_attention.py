"""Attention without projected image tokens equals plain attention for any number of tokens."""

import pytest
import torch
from torch import Tensor

from sam_train.models.two_way_transformer import Attention, CrossAttention

DIM, HEADS, OBJECTS, PIXELS = 16, 2, 3, 20
FEW, SOME, MANY = 4, 8, 9  # image tokens as keys are unprojected up to 4 tokens, as queries up to 8


class Counting(CrossAttention):
    """Counts how often image tokens were projected."""

    num_projected = 0

    def forward(self, *arguments):
        self.num_projected += 1
        return super().forward(*arguments)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def attention() -> Counting:
    return Counting(DIM, HEADS, downsample_rate=2).double()


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.double, requires_grad=True)


def assert_same(actual: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    direction = torch.randn_like(expected)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    gradients = [
        torch.autograd.grad(output, inputs, direction, materialize_grads=True) for output in (actual, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("num_images", [1, OBJECTS])
@pytest.mark.parametrize("num_tokens", [FEW, SOME, MANY])
@pytest.mark.parametrize("is_guided", [False, True])
def test_token_to_image(num_tokens, num_images, is_guided):
    cross = attention()
    tokens = random(OBJECTS, num_tokens, DIM)
    key, image = random(num_images, PIXELS, DIM), random(num_images, PIXELS, DIM)
    similarity = random(OBJECTS, PIXELS) if is_guided else None
    actual = cross.token_to_image(tokens, key, image, similarity)
    assert cross.num_projected == (num_tokens > FEW or (num_images == 1 and not is_guided))
    everyones_key, everyones = (value.expand(OBJECTS, -1, -1) for value in (key, image))
    expected = Attention.forward(cross, tokens, everyones_key, everyones, similarity)
    guide = [similarity] if similarity is not None else []
    assert_same(actual, expected, [tokens, key, image, *guide, *cross.parameters()])


@pytest.mark.parametrize("num_images", [1, OBJECTS])
@pytest.mark.parametrize("num_tokens", [FEW, SOME, MANY])
def test_image_to_token(num_tokens, num_images):
    cross = attention()
    tokens, key = random(OBJECTS, num_tokens, DIM), random(OBJECTS, num_tokens, DIM)
    image, query = random(num_images, PIXELS, DIM), random(num_images, PIXELS, DIM)
    attend = torch.ones(OBJECTS, num_tokens, dtype=torch.bool)
    attend[0, -2:] = False
    actual = cross.image_to_token(image, query, key, tokens, attend)
    assert cross.num_projected == (num_tokens > SOME)
    seen = Attention.forward(cross, query.expand(OBJECTS, -1, -1), key, tokens, attend)
    assert_same(actual, image + seen, [tokens, key, image, query, *cross.parameters()])
