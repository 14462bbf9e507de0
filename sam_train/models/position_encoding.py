"""Random Fourier features of coordinates, as SAM's prompt encoder uses them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
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
