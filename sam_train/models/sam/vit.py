"""SAM's image encoder: a plain vision transformer with windowed and global attention and relative positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.encoder_block import EncoderBlock
from sam_train.models.layers import MLPBlock, image_neck
from sam_train.models.sam.relative_attention import attend
from sam_train.models.staged_encoder import Maps, StagedEncoder
from sam_train.models.unused_weights import Shapes
from sam_train.models.windows import merge_windows, partition_windows


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of the encoder.

    Attributes:
        embed_dim: Channels of the blocks.
        depth: Number of blocks.
        num_heads: Attention heads of each block.
        global_blocks: Blocks that attend over the whole image; the others over windows.
        image_size: Side of the input that the position embeddings were made for, in pixels.
        window_size: Side of a window, in patches.
        patch_size: Side of a patch, in pixels.
        mlp_dim: Hidden channels of the blocks' MLPs.
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    mlp_dim: int
    image_size: int = 1024
    window_size: int = 14
    patch_size: int = 16

    unused_shapes: ClassVar[Shapes] = ()  # checkpoints hold nothing else

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of the embedding."""
        return self.patch_size

    @property
    def size_multiple(self) -> int:
        """Input sides are multiples of this."""
        return self.stride

    def build(self, out_channels: int) -> ImageEncoderViT:
        """The encoder, with fresh weights."""
        return ImageEncoderViT(self, out_channels)


def resize_position_embedding(embedding: Float[Tensor, "1 h w C"], size: tuple[int, int]) -> Float[Tensor, "1 H W C"]:
    """Absolute position embeddings for another grid, bicubic with antialiasing; the same tensor for the same grid."""
    if embedding.shape[1:3] == size:
        return embedding
    wide = embedding.permute(0, 3, 1, 2).to(_interpolated(embedding))
    resized = F.interpolate(wide, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1).to(embedding.dtype)


def resize_relative_positions(table: Float[Tensor, "n c"], size: int) -> Float[Tensor, "m c"]:
    """A relative-position table for ``size`` positions, linear in the offset as the official ``get_rel_pos``."""
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
        """Every position attends to every other."""
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
        """For each query the scores of the rows and of the columns that its keys may be in."""
        rows = torch.einsum("nhwc,hkc->nhwk", q, _offsets(self.rel_pos_h, q.shape[1]).to(q.dtype))
        columns = torch.einsum("nhwc,wkc->nhwk", q, _offsets(self.rel_pos_w, q.shape[2]).to(q.dtype))
        return rows, columns


def _offsets(table: Float[Tensor, "n c"], size: int) -> Float[Tensor, "size size c"]:
    """Entry [i, j] is the embedding of the offset i - j."""
    positions = torch.arange(size, device=table.device)
    return resize_relative_positions(table, size)[positions[:, None] - positions[None, :] + size - 1]


class Block(EncoderBlock):
    """A transformer block whose attention sees windows of the image or, with ``window_size`` 0, all of it."""

    def __init__(self, config: ViTConfig, window_size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=1e-6)
        grid_size = window_size or config.image_size // config.patch_size
        self.attn = RelativeAttention(config.embed_dim, config.num_heads, grid_size)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=1e-6)
        self.mlp = MLPBlock(config.embed_dim, config.mlp_dim, nn.GELU)
        self.window_size = window_size

    def transform(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B h w C"]:
        """The map after attention and MLP."""
        attended = self.norm1(x)
        if self.window_size:
            attended = merge_windows(self.attn(partition_windows(attended, self.window_size)), (x.shape[1], x.shape[2]))
        else:
            attended = self.attn(attended)
        x = x + attended
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Each patch of pixels to one vector."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w C"]:
        """A grid of vectors."""
        return self.proj(images).permute(0, 2, 3, 1)


class ImageEncoderViT(StagedEncoder):
    """ViT in the manner of ViTDet (Li et al. 2022) and a neck down to the decoder's channels."""

    def __init__(self, config: ViTConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        grid_size = config.image_size // config.patch_size
        self.patch_embed = PatchEmbed(config.patch_size, config.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid_size, grid_size, config.embed_dim))
        self.blocks = nn.ModuleList(
            Block(config, window_size=0 if index in config.global_blocks else config.window_size)
            for index in range(config.depth)
        )
        self.neck = image_neck(config.embed_dim, out_channels)
        self.apply(_initialize)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @property
    def steps(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def start(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B h w C"]]:
        """Patches with their positions; position embeddings are interpolated to the images' size."""
        x = self.patch_embed(images)
        return (x + resize_position_embedding(self.pos_embed, (x.shape[1], x.shape[2])),)

    def finish(self, maps: Maps) -> Float[Tensor, "B C h w"]:
        """The embedding of the images."""
        return self.neck(maps[-1].permute(0, 3, 1, 2))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)  # Touvron et al., "DeiT", 2021
        nn.init.zeros_(module.bias)
