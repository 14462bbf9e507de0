"""The transformer block of Hiera (Ryali et al. 2023): attention in windows or over the whole map, queries pooled."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.encoder_block import EncoderBlock
from sam_train.models.layers import MLP
from sam_train.models.windows import merge_windows, partition_windows

QUERY_STRIDE = 2  # each stage halves the map of the one before
MLP_RATIO = 4


class MultiScaleAttention(nn.Module):
    """Self-attention over a grid; with ``pool`` the queries, and so the output, are on a grid of half the side."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, pool: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool = pool
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Float[Tensor, "n h w C"]) -> Float[Tensor, "n H W D"]:
        """Let every (pooled) position attend to every other."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pool:
            q = max_pool(q)
        size = q.shape[1:3]
        q, k, v = (t.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2).unflatten(1, size))


def max_pool(x: Float[Tensor, "n h w C"]) -> Float[Tensor, "n H W C"]:
    """Return the maximum of each channel over cells of two by two positions."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), QUERY_STRIDE, QUERY_STRIDE).permute(0, 2, 3, 1)


class MultiScaleBlock(EncoderBlock):
    """A transformer block on windows or, with ``window_size`` 0, on the whole map; the first of a stage pools."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, window_size: int, pool: bool) -> None:
        super().__init__()
        self.window_size = window_size
        self.pool = pool
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MultiScaleAttention(dim, dim_out, num_heads, pool)
        self.norm2 = nn.LayerNorm(dim_out, eps=1e-6)
        self.mlp = MLP(dim_out, MLP_RATIO * dim_out, dim_out, num_layers=2, activation=nn.GELU)
        if pool:
            self.proj = nn.Linear(dim, dim_out)

    def attention_layers(self) -> list[nn.Module]:
        """Return the projections before and after attention."""
        return [self.attn.qkv, self.attn.proj]

    def transform(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B H W D"]:
        """Return the map after the block, of half the side if it pools."""
        normalized = self.norm1(x)
        shortcut = max_pool(self.proj(normalized)) if self.pool else x
        if self.window_size:
            attended = self.attn(partition_windows(normalized, self.window_size))
            attended = merge_windows(attended, (shortcut.shape[1], shortcut.shape[2]))
        else:
            attended = self.attn(normalized)
        x = shortcut + attended
        return x + self.mlp(self.norm2(x))
