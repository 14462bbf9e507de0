"""SAM's image encoder: a plain vision transformer with windowed and global attention and relative positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.checkpoint_layout import HuggingFaceEncoder, PositionTable
from sam_train.models.encoder_block import EncoderBlock
from sam_train.models.layers import MLPBlock, image_neck
from sam_train.models.sam.relative_positions import (
    RelativeAttention,
    resize_position_embedding,
    resize_relative_positions,
)
from sam_train.models.staged_encoder import Maps, StagedEncoder
from sam_train.models.windows import merge_windows, partition_windows

HUGGINGFACE_RENAMES = {
    "patch_embed.proj": "patch_embed.projection",
    "blocks.{}.norm{}": "layers.{}.layer_norm{}",
    "blocks": "layers",
    "neck.0": "neck.conv1",
    "neck.1": "neck.layer_norm1",
    "neck.2": "neck.conv2",
    "neck.3": "neck.layer_norm2",
}


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of the encoder.

    Attributes:
        embed_dim: Channels of the blocks.
        depth: Number of blocks.
        num_heads: Attention heads of each block.
        global_blocks: Blocks that attend over the whole image; the others attend over windows.
        mlp_dim: Hidden channels of the blocks' MLPs.
        image_size: Side of the input that the position embeddings are made for, in pixels.
        window_size: Side of a window, in patches.
        patch_size: Side of a patch, in pixels.
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    mlp_dim: int
    image_size: int = 1024
    window_size: int = 14
    patch_size: int = 16

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of the embedding."""
        return self.patch_size

    @property
    def size_multiple(self) -> int:
        """Number of pixels that the input's side must be a multiple of."""
        return self.patch_size

    def build(self, out_channels: int) -> ImageEncoderViT:
        """Return the encoder with fresh weights."""
        return ImageEncoderViT(self, out_channels)


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

    def attention_layers(self) -> list[nn.Module]:
        """Return the projections before and after attention."""
        return [self.attn.qkv, self.attn.proj]

    def transform(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B h w C"]:
        """Return the map after attention and MLP."""
        attended = self.norm1(x)
        if self.window_size:
            attended = merge_windows(self.attn(partition_windows(attended, self.window_size)), (x.shape[1], x.shape[2]))
        else:
            attended = self.attn(attended)
        x = x + attended
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """A projection of each patch of pixels to one vector."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w C"]:
        """Return a grid of vectors."""
        return self.proj(images).permute(0, 2, 3, 1)


class ImageEncoderViT(StagedEncoder):
    """A ViT in the manner of ViTDet (Li et al. 2022) and a neck down to the decoder's channels."""

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
        """Return patches with their positions, which are interpolated to the size of the images."""
        x = self.patch_embed(images)
        return (x + resize_position_embedding(self.pos_embed, (x.shape[1], x.shape[2])),)

    def finish(self, maps: Maps) -> Float[Tensor, "B C h w"]:
        """Return the embedding of the images."""
        return self.neck(maps[-1].permute(0, 3, 1, 2))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return patches and positions, each block, and the neck with the last block."""
        return self._group_by_step([self.pos_embed, *self.patch_embed.parameters()], self.neck)

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Return the tables of positions."""
        attentions = [module for module in self.modules() if isinstance(module, RelativeAttention)]
        return [self.pos_embed, *(table for each in attentions for table in (each.rel_pos_h, each.rel_pos_w))]

    def position_tables(self) -> Mapping[str, PositionTable]:
        """Return the absolute table and those of global attention; windows are the same at every input size."""
        config = self.config
        patch, head_dim = config.patch_size, config.embed_dim // config.num_heads
        absolute = PositionTable(
            config.image_size,
            lambda size: (1, size // patch, size // patch, config.embed_dim),
            lambda table, size: resize_position_embedding(table, (size // patch, size // patch)),
        )
        relative = PositionTable(
            config.image_size,
            lambda size: (2 * (size // patch) - 1, head_dim),
            lambda table, size: resize_relative_positions(table, size // patch),
        )
        names = [f"blocks.{block}.attn.rel_pos_{axis}" for block in config.global_blocks for axis in "hw"]
        return {"pos_embed": absolute} | dict.fromkeys(names, relative)

    def huggingface(self, image_size: int) -> HuggingFaceEncoder:
        """Return the layout of ``transformers.SamVisionModel``."""
        config = self.config
        vision_config = {
            "hidden_size": config.embed_dim,
            "num_hidden_layers": config.depth,
            "num_attention_heads": config.num_heads,
            "num_channels": 3,
            "image_size": image_size,
            "patch_size": config.patch_size,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "attention_dropout": 0.0,
            "qkv_bias": True,
            "mlp_ratio": config.mlp_dim / config.embed_dim,
            "mlp_dim": config.mlp_dim,
            "use_abs_pos": True,
            "use_rel_pos": True,
            "window_size": config.window_size,
            "global_attn_indexes": list(config.global_blocks),
        }
        return HuggingFaceEncoder(HUGGINGFACE_RENAMES, vision_config)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)  # Touvron et al., "DeiT", 2021
        nn.init.zeros_(module.bias)
