"""Encodings of places and times.

SAM's prompt encoder has random Fourier features of coordinates; SAM 2's memory has sines of rows, columns and frames,
and rotates queries and keys by their cells' places.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn


class PositionEmbeddingRandom(nn.Module):
    """Random spatial frequencies: [sin(2πGc), cos(2πGc)] of a coordinate c in [-1, 1]² and a fixed Gaussian matrix G.

    Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions" (2020); SAM, appendix A.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_features))
        self.positional_encoding_gaussian_matrix: Tensor

    def encode(self, coordinates: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch C"]:
        """Return features of x, y given in [0, 1]."""
        centered = 2 * coordinates - 1
        x_frequency, y_frequency = self.positional_encoding_gaussian_matrix
        # Two products rather than a matrix product, which autocast would do in bf16, some pixels off.
        angle = 2 * math.pi * (centered[..., :1] * x_frequency + centered[..., 1:] * y_frequency)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).to(x_frequency.dtype)

    def forward(self, size: tuple[int, int]) -> Float[Tensor, "1 C h w"]:
        """Return features of the cell centers of a grid of this height and width."""
        height, width = size
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return self.encode(grid).permute(2, 0, 1)[None]


SLOWEST_WAVE = 10_000.0  # of sine encodings and rotations, in steps of one (Vaswani et al. 2017)


def sine_encoding(values: Float[Tensor, "*batch"], num_channels: int) -> Float[Tensor, "*batch C"]:
    """Return the sines of each value over half the channels, then its cosines (Vaswani et al. 2017, section 3.5)."""
    angles = values[..., None] / _wavelengths(num_channels // 2, values)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def sine_grid(size: tuple[int, int], num_channels: int, like: Tensor) -> Float[Tensor, "1 C h w"]:
    """Encode the cells of a grid: half the channels for the row, half for the column, each counted from above 0 to 2π.

    Carion et al., "End-to-End Object Detection with Transformers" (2020), in which sines and cosines take turns.

    Args:
        size: Height and width of the grid.
        num_channels: A multiple of 4.
        like: Any tensor on the device and of the precision that the encoding is to have; at least single precision.
    """

    def encode(count: int) -> Float[Tensor, "n c"]:
        places = torch.arange(1, count + 1, device=like.device, dtype=_at_least_single(like))
        angles = (2 * math.pi * places / (count + 1e-6))[:, None] / _wavelengths(num_channels // 2, places)
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=-1).flatten(1)

    height, width = size
    rows, columns = encode(height)[:, None], encode(width)[None]
    grid = torch.cat([rows.expand(-1, width, -1), columns.expand(height, -1, -1)], dim=-1)
    return grid.permute(2, 0, 1)[None]


def axial_rotation(size: tuple[int, int], num_channels: int, like: Tensor) -> Complex[Tensor, "L c"]:
    """Return the turn of each pair of channels at each cell of a grid, cells in reading order.

    The first half of the pairs turns with the column, the second with the row (Su et al., "RoFormer", 2021, for two
    axes). Scores of vectors turned by :func:`rotate` depend on the distance of their cells and not on their place.

    Args:
        size: Height and width of the grid.
        num_channels: A multiple of 4.
        like: Any tensor on the device and of the precision that the rotation is to have; at least single precision.
    """
    height, width = size
    exponents = torch.arange(0, num_channels, 4, device=like.device, dtype=_at_least_single(like)) / num_channels
    speeds = SLOWEST_WAVE**-exponents
    cells = torch.arange(height * width, device=like.device)
    angles = torch.cat([(cells % width)[:, None] * speeds, (cells // width)[:, None] * speeds], dim=1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Float[Tensor, "*batch L C"], rotation: Complex[Tensor, "L c"]) -> Float[Tensor, "*batch L C"]:
    """Turn each pair of neighboring channels as :func:`axial_rotation` says."""
    pairs = torch.view_as_complex(x.to(rotation.real.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def _wavelengths(count: int, like: Tensor) -> Float[Tensor, "n"]:
    """Of a sine encoding; two neighbors, sine and cosine, share one."""
    steps = torch.arange(count, device=like.device, dtype=like.dtype)
    return SLOWEST_WAVE ** (2 * (steps // 2) / count)


def _at_least_single(like: Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)
