"""TinyViT (Wu et al. 2022) as the image encoder of MobileSAM (Zhang et al. 2023) and LiteMedSAM (Ma et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.encoder_block import EncoderBlock
from sam_train.models.layers import image_neck
from sam_train.models.staged_encoder import Maps, StagedEncoder
from sam_train.models.unused_weights import Shapes, hold_unused_weights, linear_shapes
from sam_train.models.windows import merge_windows, partition_windows

EXPANSION = 4  # hidden channels of every MLP and inverted bottleneck, in every released model


@dataclass(frozen=True)
class TinyViTConfig:
    """Sizes of the encoder; the defaults are MobileSAM's, the 5M model of the paper.

    The encoder fits every input size: its positions are offsets within a window.

    Attributes:
        embed_dims: Channels of the four stages. The first is convolutional, the others attend over windows.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage; unused in the first, which has no attention.
        window_sizes: Side of each stage's windows, in cells of its map; unused in the first, too.
        patch_size: Side of a patch in pixels: 4, or 1 as in LiteMedSAM, whose inputs have 256 pixels.
        num_classes: Width of the classifier that MobileSAM's checkpoints still carry; 0 leaves it out.
    """

    embed_dims: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    num_heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    window_sizes: tuple[int, int, int, int] = (7, 7, 14, 7)
    patch_size: int = 4
    num_classes: int = 1000

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of the embedding."""
        return 4 * self.patch_size

    @property
    def size_multiple(self) -> int:
        """Number of pixels that the input's side must be a multiple of."""
        return self.stride

    def build(self, out_channels: int) -> TinyViT:
        """Return the encoder with fresh weights."""
        return TinyViT(self, out_channels)


class ConvNorm(nn.Sequential):
    """A convolution that keeps the size (or divides it by its stride) and batch normalization."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, depthwise: bool = False
    ) -> None:
        super().__init__()
        groups = out_channels if depthwise else 1
        self.c = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)


class PatchEmbed(nn.Module):
    """Two convolutions from pixels to the first stage's channels, the first with half of them."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        kernel_size, stride = {4: (3, 2), 1: (1, 1)}[patch_size]
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, kernel_size, stride), nn.GELU(), ConvNorm(dim // 2, dim, kernel_size, stride)
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Return the map of patches."""
        return self.seq(images)


class Bottleneck(nn.Module):
    """A pointwise, a depthwise and a pointwise convolution: TinyViT's ``MBConv`` and ``PatchMerging``."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, hidden_channels, 1)
        self.conv2 = ConvNorm(hidden_channels, hidden_channels, 3, stride, depthwise=True)
        self.conv3 = ConvNorm(hidden_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        """Return the map, its sides divided by the stride."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class MBConv(EncoderBlock, Bottleneck):
    """An inverted bottleneck with a residual (Sandler et al., "MobileNetV2", 2018)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, EXPANSION * dim, dim)

    def transform(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Return the map after the block."""
        return F.gelu(x + Bottleneck.forward(self, x))


class BiasedAttention(nn.Module):
    """Self-attention in a window with a learned bias for each distance in rows and columns, as in LeViT (2021)."""

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))

    def forward(self, x: Float[Tensor, "n side side C"]) -> Float[Tensor, "n side side C"]:
        """Let every position attend to every other in its window."""
        qkv = self.qkv(self.norm(x)).flatten(1, 2).unflatten(-1, (self.num_heads, 3, -1))
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias().to(q.dtype))
        return self.proj(out.transpose(1, 2).flatten(2)).view(x.shape)

    def _bias(self) -> Float[Tensor, "n L L"]:
        positions = torch.arange(self.window_size, device=self.attention_biases.device)
        distance = (positions[:, None] - positions).abs()
        index = distance[:, None, :, None] * self.window_size + distance[None, :, None, :]
        return self.attention_biases[:, index.flatten(2).flatten(0, 1)]


class MLP(nn.Module):
    """Normalization, linear, GELU, linear; names are those of the checkpoints."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, EXPANSION * dim)
        self.fc2 = nn.Linear(EXPANSION * dim, dim)

    def forward(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B h w C"]:
        """Transform each position on its own."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(EncoderBlock):
    """Windowed attention, a depthwise convolution across windows, and an MLP."""

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.attn = BiasedAttention(dim, num_heads, window_size)
        self.mlp = MLP(dim)
        self.local_conv = ConvNorm(dim, dim, 3, depthwise=True)

    def attention_layers(self) -> list[nn.Module]:
        """Return the projections before and after attention."""
        return [self.attn.qkv, self.attn.proj]

    def transform(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Return the map after the block."""
        x = x.permute(0, 2, 3, 1)
        # Padded before attention normalizes: the padding takes part in attention as the norm's bias.
        windows = self.attn(partition_windows(x, self.window_size))
        x = x + merge_windows(windows, (x.shape[1], x.shape[2]))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x + self.mlp(x)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks at one resolution and the convolutions to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: Bottleneck | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    @property
    def steps(self) -> list[nn.Module]:
        """The modules from this stage's map to the next stage's, in order."""
        return [*self.blocks, *([] if self.downsample is None else [self.downsample])]


class TinyViT(StagedEncoder):
    """Four stages and SAM's neck, with batch normalization: images are independent in evaluation mode only."""

    def __init__(self, config: TinyViTConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.embed_dims[0], config.patch_size)
        self.layers = nn.ModuleList(self._stage(index) for index in range(4))
        hold_unused_weights(self, self.unused_shapes)
        self.apply(_initialize)
        self.neck = image_neck(config.embed_dims[-1], out_channels)

    def _stage(self, index: int) -> Stage:
        config, dim = self.config, self.config.embed_dims[index]
        blocks: list[nn.Module] = [
            TinyViTBlock(dim, config.num_heads[index], config.window_sizes[index]) if index else MBConv(dim)
            for _ in range(config.depths[index])
        ]
        if index == 3:
            return Stage(blocks, downsample=None)
        next_dim = config.embed_dims[index + 1]
        # The last stage stays at the third's resolution, unlike the paper's: SAM's decoder wants a sixteenth.
        return Stage(blocks, Bottleneck(dim, next_dim, next_dim, stride=2 if index < 2 else 1))

    @property
    def steps(self) -> list[nn.Module]:
        """Blocks and the convolutions between stages."""
        return [step for stage in self.layers for step in stage.steps]  # pyright: ignore[reportGeneralTypeIssues]

    def start(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B c h w"]]:
        """Return the patches of images whose size is a multiple of the stride."""
        return (self.patch_embed(images),)

    def finish(self, maps: Maps) -> Float[Tensor, "B C h w"]:
        """Return the embedding of the images."""
        return self.neck(maps[-1])

    @property
    def unused_shapes(self) -> Shapes:
        """Names and shapes of the classifier of the pretraining on ImageNet, which checkpoints still hold."""
        if not self.config.num_classes:
            return ()
        dim = self.config.embed_dims[-1]
        return *linear_shapes("norm_head", dim), *linear_shapes("head", self.config.num_classes, dim)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return patches, each block and each step between stages, and the neck with the last block."""
        return self._group_by_step(self.patch_embed.parameters(), self.neck)

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Return the tables of positions."""
        return [module.attention_biases for module in self.modules() if isinstance(module, BiasedAttention)]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, MBConv):
        nn.init.zeros_(module.conv3.bn.weight)  # each starts as its residual alone (TinyViT's own choice)
