"""Where the cells of SAM's ViT are: its tables of positions at any input size, and the attention that uses them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.sam.relative_attention import attend


def resize_position_embedding(embedding: Float[Tensor, "1 h w C"], size: tuple[int, int]) -> Float[Tensor, "1 H W C"]:
    """Return absolute position embeddings for a grid of this height and width, bicubic with antialiasing."""
    if embedding.shape[1:3] == size:
        return embedding
    wide = embedding.permute(0, 3, 1, 2).to(_interpolated(embedding))
    resized = F.interpolate(wide, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1).to(embedding.dtype)


def resize_relative_positions(table: Float[Tensor, "n c"], size: int) -> Float[Tensor, "m c"]:
    """Return a relative-position table for ``size`` positions, linear in the offset as the official ``get_rel_pos``."""
    length = 2 * size - 1
    if len(table) == length:
        return table
    resized = F.interpolate(table.T[None].to(_interpolated(table)), length, mode="linear", align_corners=False)
    return resized[0].T.to(table.dtype)


def _interpolated(table: Tensor) -> torch.dtype:
    return torch.promote_types(table.dtype, torch.float32)  # not every device interpolates half precision


class RelativeAttention(nn.Module):
    """Self-attention over a grid with decomposed relative positions (Li et al., "MViTv2", 2022, section 4.1).

    The score of query i and key j has q_i·Rh[row_i - row_j] + q_i·Rw[column_i - column_j] added to it.
    """

    def __init__(self, dim: int, num_heads: int, grid_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid_size - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid_size - 1, head_dim))

    def forward(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B h w C"]:
        """Let every position attend to every other."""
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)
        rows, columns = self._position_scores(q.unflatten(1, (height, width)))
        out = attend(q * q.shape[-1] ** -0.5, k, v, rows.flatten(1, 2), columns.flatten(1, 2))
        out = out.unflatten(0, (batch, self.num_heads)).transpose(1, 2)
        return self.proj(out.reshape(batch, height, width, -1))

    def _position_scores(
        self, q: Float[Tensor, "N h w c"]
    ) -> tuple[Float[Tensor, "N h w h"], Float[Tensor, "N h w w"]]:
        """Return each query's scores of the rows and of the columns that its keys may be in."""
        rows = torch.einsum("nhwc,hkc->nhwk", q, _offsets(self.rel_pos_h, q.shape[1]).to(q.dtype))
        columns = torch.einsum("nhwc,wkc->nhwk", q, _offsets(self.rel_pos_w, q.shape[2]).to(q.dtype))
        return rows, columns


def _offsets(table: Float[Tensor, "n c"], size: int) -> Float[Tensor, "size size c"]:
    """Return a table whose entry [i, j] is the embedding of the offset i - j."""
    positions = torch.arange(size, device=table.device)
    return resize_relative_positions(table, size)[positions[:, None] - positions[None, :] + size - 1]
