"""Small layers that SAM and SAM 2 share."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Layer normalization over the channels of a (B, C, h, w) map, each position on its own."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Normalize the channels of each position."""
        return self.normalize(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def normalize(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        """Normalize positions whose channels come last."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class MLPBlock(nn.Module):
    """Linear, activation, linear, as in a transformer block; names are those of the checkpoints."""

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)
        self.act = activation()

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        """Transform each position on its own."""
        return self.lin2(self.act(self.lin1(x)))


class MLP(nn.Module):
    """Linear layers with an activation between them: the decoders' heads, and every MLP of SAM 2."""

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        num_layers: int,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        sizes = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.act = activation()

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... D"]:
        """Transform each position on its own."""
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        return self.layers[-1](x)


def image_neck(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the layers from an image encoder's channels to those of SAM's decoder (Li et al., "ViTDet", 2022)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )
