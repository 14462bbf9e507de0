"""SAM 2's memory encoder: what is kept of a frame and of an object's mask on it (Ravi et al. 2024, appendix D.1)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sam_train.models.layers import LayerNorm2d

MASK_CHANNELS = (1, 4, 16, 64, 256)  # each convolution halves the side and keeps the number of values
FUSER_DEPTH = 2


class MaskDownsampler(nn.Module):
    """Convolutions from a mask over the input to a map over the cells of the image embedding, a 16th of the side."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        halvings = [
            layer
            for before, after in pairwise(MASK_CHANNELS)
            for layer in (nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1), LayerNorm2d(after), nn.GELU())
        ]
        self.encoder = nn.Sequential(*halvings, nn.Conv2d(MASK_CHANNELS[-1], dim, kernel_size=1))

    def forward(self, masks: Float[Tensor, "P 1 S S"]) -> Float[Tensor, "P C h w"]:
        """Embed masks."""
        return self.encoder(masks)


class FuserBlock(nn.Module):
    """A ConvNeXt block (Liu et al. 2022) whose residual is scaled per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))  # Touvron et al., "CaiT", 2021

    def forward(self, x: Float[Tensor, "P C h w"]) -> Float[Tensor, "P C h w"]:
        """Return the map after the block."""
        cells = self.norm.normalize(self.dwconv(x).permute(0, 2, 3, 1))
        cells = self.gamma * self.pwconv2(F.gelu(self.pwconv1(cells)))
        return x + cells.permute(0, 3, 1, 2)


class Fuser(nn.Module):
    """Blocks that mix what is near each other."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FuserBlock(dim) for _ in range(depth))

    def forward(self, x: Float[Tensor, "P C h w"]) -> Float[Tensor, "P C h w"]:
        """Return the map after all blocks."""
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """From image embeddings and masks to memories; objects of one image share what is done to the image."""

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownsampler(dim)
        self.pix_feat_proj = nn.Conv2d(dim, dim, kernel_size=1)
        self.fuser = Fuser(dim, FUSER_DEPTH)
        self.out_proj = nn.Conv2d(dim, memory_dim, kernel_size=1)

    def forward(
        self,
        embedding: Float[Tensor, "B C h w"],
        masks: Float[Tensor, "P 1 S S"],
        object_image: Int[Tensor, "P"],
    ) -> Float[Tensor, "P D h w"]:
        """Return the memories of P objects; object i is on image ``object_image[i]``.

        Args:
            embedding: Of the images, without anything remembered.
            masks: From -10 outside of the object to 10 inside.
            object_image: Index of each object's image.
        """
        fused = self.pix_feat_proj(embedding)[object_image] + self.mask_downsampler(masks)
        return self.out_proj(self.fuser(fused))
