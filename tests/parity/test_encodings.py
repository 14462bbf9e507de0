"""Encodings of places and times, and rotations by place, are the official ones."""

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from sam_train.models.position_encoding import axial_rotation, rotate, sine_encoding, sine_grid
from tests.parity.reference import ROOT, needs_reference

pytestmark = needs_reference


@pytest.fixture(scope="module")
def stored():
    with safe_open(ROOT / "prompt_sampling" / "golden.safetensors", "pt") as file:
        return {name: file.get_tensor(f"encoding/{name}") for name in NAMES}


NAMES = (
    *("sine_1d/positions", "sine_1d/dim_64", "sine_1d/dim_256", "sine_2d/64_5x5", "sine_2d/256_6x9"),
    *("rope/freqs_real_imag", "rope/q", "rope/q_out", "rope/k", "rope/k_out"),
)


@pytest.mark.parametrize("num_channels", [64, 256])
def test_times(stored, num_channels):
    encoded = sine_encoding(stored["sine_1d/positions"], num_channels)
    assert_close(encoded, stored[f"sine_1d/dim_{num_channels}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("num_channels", "size"), [(64, (5, 5)), (256, (6, 9))])
def test_places(stored, num_channels, size):
    expected = stored[f"sine_2d/{num_channels}_{size[0]}x{size[1]}"]
    assert_close(sine_grid(size, num_channels, expected)[0], expected, atol=1e-6, rtol=0)


def test_rotations(stored):
    rotation = axial_rotation((4, 4), 16, stored["rope/q"])
    assert_close(torch.view_as_real(rotation), stored["rope/freqs_real_imag"], atol=1e-6, rtol=0)
    assert_close(rotate(stored["rope/q"], rotation), stored["rope/q_out"], atol=1e-6, rtol=0)
    frames = stored["rope/k"].unflatten(2, (3, 16))
    assert_close(rotate(frames, rotation).flatten(2, 3), stored["rope/k_out"], atol=1e-6, rtol=0)


def test_scores_of_what_is_rotated_depend_on_distances_alone():
    rotation = axial_rotation((5, 5), 8, torch.zeros(1, dtype=torch.double))
    query, key = torch.randn(2, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    scores = rotate(query.expand(25, 8), rotation) @ rotate(key.expand(25, 8), rotation).T
    scores = scores.unflatten(0, (5, 5)).unflatten(2, (5, 5))
    assert_close(scores[0, 1, 2, 3], scores[2, 0, 4, 2])
    assert not torch.allclose(scores[0, 1, 2, 3], scores[2, 0, 4, 3])
