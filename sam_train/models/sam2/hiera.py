"""SAM 2's image encoder: Hiera (Ryali et al. 2023) with four stages, windows and a few global blocks, and a neck."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.checkpoint_layout import HuggingFaceEncoder
from sam_train.models.sam2.fpn_neck import FpnNeck
from sam_train.models.sam2.hiera_block import MLP_RATIO, MultiScaleBlock
from sam_train.models.staged_encoder import Maps, StagedEncoder

HUGGINGFACE_RENAMES = {
    "trunk.blocks.{}.norm{}": "backbone.blocks.{}.layer_norm{}",
    "trunk.blocks.{}.mlp.layers.0": "backbone.blocks.{}.mlp.proj_in",
    "trunk.blocks.{}.mlp.layers.1": "backbone.blocks.{}.mlp.proj_out",
    "trunk.patch_embed.proj": "backbone.patch_embed.projection",
    "trunk": "backbone",
    "neck.convs.{}.conv": "neck.convs.{}",
}


@dataclass(frozen=True)
class HieraConfig:
    """Sizes of the encoder. Each stage has twice the channels and heads of the one before it.

    Attributes:
        embed_dim: Channels of the first stage.
        num_heads: Attention heads of the first stage.
        depths: Blocks of each stage.
        global_blocks: Blocks that attend over the whole map; the others attend over windows.
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

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of the embedding."""
        return 16

    @property
    def size_multiple(self) -> int:
        """Number of pixels that the input's side must be a multiple of: whole cells, and whole windows of stage one."""
        return math.lcm(32, 4 * self.window_sizes[0])

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))

    def build(self, out_channels: int) -> ImageEncoder:
        """Return the encoder with fresh weights."""
        return ImageEncoder(self, out_channels)


class PatchEmbed(nn.Module):
    """A projection of overlapping patches of pixels to one vector each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=4, padding=3)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w C"]:
        """Return a grid of vectors, one for four by four pixels."""
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
        """Embed a cell's place in the map and in its window (Bolya et al., "Window attention is bugged", 2023)."""
        background = F.interpolate(self.pos_embed, size, mode="bicubic", align_corners=False)
        side = self.pos_embed_window.shape[-1]
        window = self.pos_embed_window.tile(size[0] // side, size[1] // side)
        return (background + window).permute(0, 2, 3, 1)

    @property
    def steps(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def start(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B h w C"]]:
        """Return patches with their positions."""
        x = self.patch_embed(images)
        return (x + self.position_embedding((x.shape[1], x.shape[2])),)

    def advance(self, step: nn.Module, maps: Maps) -> Maps:
        """Run one block; a stage's last map stays when a block pools to the next stage."""
        assert isinstance(step, MultiScaleBlock)
        return (*(maps if step.pool else maps[:-1]), step(maps[-1]))

    def finish(self, maps: Maps) -> Maps:
        """Return the last map of each stage, finest first: a 4th, 8th, 16th and 32nd of the input's side."""
        return tuple(map_.permute(0, 3, 1, 2) for map_ in maps)


class ImageEncoder(StagedEncoder):
    """SAM 2's image encoder: the trunk and a feature pyramid."""

    def __init__(self, config: HieraConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        self.trunk = Hiera(config)
        self.neck = FpnNeck(config.stage_dims, out_channels)

    @property
    def steps(self) -> list[nn.Module]:
        """The trunk's blocks."""
        return self.trunk.steps

    def start(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        """Return patches with their positions."""
        return self.trunk.start(images)

    def advance(self, step: nn.Module, maps: Maps) -> Maps:
        """Run one block of the trunk."""
        return self.trunk.advance(step, maps)

    def finish(self, maps: Maps) -> Maps:
        """Return maps of the images at a 4th, 8th and 16th of their side."""
        return self.neck(self.trunk.finish(maps))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return patches and positions, each block, and the neck with the last block."""
        stem = [*self.trunk.patch_embed.parameters(), *self.undecayed_parameters()]
        return self._group_by_step(stem, self.neck)

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Return the tables of positions; they are interpolated, so they fit every input size as they are."""
        return [self.trunk.pos_embed, self.trunk.pos_embed_window]

    def huggingface(self, image_size: int) -> HuggingFaceEncoder:
        """Return the layout of ``transformers.Sam2VisionModel``."""
        config = self.config
        backbone = {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": config.embed_dim,
            "image_size": [image_size, image_size],
            "blocks_per_stage": list(config.depths),
            "embed_dim_per_stage": list(config.stage_dims),
            "num_attention_heads_per_stage": [config.num_heads * 2**stage for stage in range(len(config.depths))],
            "window_size_per_stage": list(config.window_sizes),
            "global_attention_blocks": list(config.global_blocks),
            "window_positional_embedding_background_size": [config.background_size] * 2,
            "mlp_ratio": float(MLP_RATIO),
        }
        vision_config = {
            "backbone_config": backbone,
            "backbone_channel_list": list(reversed(config.stage_dims)),
            "backbone_feature_sizes": [[image_size // stride] * 2 for stride in (4, 8, 16)],
        }
        return HuggingFaceEncoder(HUGGINGFACE_RENAMES, vision_config)


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
