"""Hiera (Ryali et al. 2023) as SAM 2's image encoder has it: four stages, windows, a few global blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.encoder_block import EncoderBlock
from sam_train.models.layers import MLP
from sam_train.models.staged_encoder import Maps, StagedEncoder
from sam_train.models.windows import merge_windows, partition_windows

QUERY_STRIDE = 2  # each stage halves the map of the one before
MLP_RATIO = 4


@dataclass(frozen=True)
class HieraConfig:
    """Sizes of the encoder. Each stage has twice the channels and heads of the one before.

    Attributes:
        embed_dim: Channels of the first stage.
        num_heads: Attention heads of the first stage.
        depths: Blocks of each stage.
        global_blocks: Blocks that attend over the whole map; the others over windows.
        window_sizes: Side of each stage's windows, in cells of its map. A stage's first block, which pools, still has
            the windows of the stage before.
        background_size: Side of the grid of position embeddings that is stretched over the whole map.
    """

    embed_dim: int
    num_heads: int
    depths: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    window_sizes: tuple[int, int, int, int] = (8, 4, 14, 7)
    background_size: int = 7

    stride: ClassVar[int] = 16  # pixels of the input per cell of the embedding

    @property
    def size_multiple(self) -> int:
        """Input sides are multiples of this: four halvings of whole cells, and whole windows in the first stage."""
        return math.lcm(32, 4 * self.window_sizes[0])

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))


class MultiScaleAttention(nn.Module):
    """Self-attention over a grid; with ``pool`` the queries, and so the output, are on a grid of half the side."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, pool: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool = pool
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Float[Tensor, "n h w C"]) -> Float[Tensor, "n H W D"]:
        """Every (pooled) position attends to every other."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pool:
            q = max_pool(q)
        size = q.shape[1:3]
        q, k, v = (t.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2).unflatten(1, size))


def max_pool(x: Float[Tensor, "n h w C"]) -> Float[Tensor, "n H W C"]:
    """The maximum of each cell's channels over its two by two positions."""
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

    def transform(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B H W D"]:
        """The map after the block, of half the side if it pools."""
        normalized = self.norm1(x)
        shortcut = max_pool(self.proj(normalized)) if self.pool else x
        if self.window_size:
            attended = self.attn(partition_windows(normalized, self.window_size))
            attended = merge_windows(attended, (shortcut.shape[1], shortcut.shape[2]))
        else:
            attended = self.attn(normalized)
        x = shortcut + attended
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Overlapping patches of pixels to one vector each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=4, padding=3)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w C"]:
        """A grid of vectors, one for four by four pixels."""
        return self.proj(images).permute(0, 2, 3, 1)


class Hiera(StagedEncoder):
    """The trunk of SAM 2's image encoder."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.config = config
        dim, background, window = config.embed_dim, config.background_size, config.window_sizes[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, dim, background, background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, dim, window, window))
        self.patch_embed = PatchEmbed(dim)
        self.blocks = nn.ModuleList(_blocks(config))
        self.apply(_initialize)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.pos_embed_window, std=0.02)

    def position_embedding(self, size: tuple[int, int]) -> Float[Tensor, "1 h w C"]:
        """Where a cell is in the map and where in its window (Bolya et al., "Window attention is bugged", 2023)."""
        background = F.interpolate(self.pos_embed, size, mode="bicubic", align_corners=False)
        side = self.pos_embed_window.shape[-1]
        window = self.pos_embed_window.tile(size[0] // side, size[1] // side)
        return (background + window).permute(0, 2, 3, 1)

    @property
    def steps(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def start(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B h w C"]]:
        """Patches with their positions."""
        x = self.patch_embed(images)
        return (x + self.position_embedding((x.shape[1], x.shape[2])),)

    def advance(self, step: nn.Module, maps: Maps) -> Maps:
        """One block further; a stage's last map stays when a block pools to the next."""
        assert isinstance(step, MultiScaleBlock)
        return (*(maps if step.pool else maps[:-1]), step(maps[-1]))

    def finish(self, maps: Maps) -> Maps:
        """The last map of each stage, finest first: a 4th, 8th, 16th and 32nd of the input's side."""
        return tuple(map_.permute(0, 3, 1, 2) for map_ in maps)


def _blocks(config: HieraConfig) -> Iterator[MultiScaleBlock]:
    stages = [stage for stage, depth in enumerate(config.depths) for _ in range(depth)]
    for index, (before, stage) in enumerate(pairwise([0, *stages])):
        yield MultiScaleBlock(
            dim=config.stage_dims[before],
            dim_out=config.stage_dims[stage],
            num_heads=config.num_heads * 2**stage,
            window_size=0 if index in config.global_blocks else config.window_sizes[before],
            pool=before != stage,
        )


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)  # Touvron et al., "DeiT", 2021
        nn.init.zeros_(module.bias)
