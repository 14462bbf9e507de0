"""From Hiera's four maps to the three that SAM 2 uses (Ravi et al. 2024, appendix D.1)."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FpnNeck(nn.Module):
    """A feature pyramid (Lin et al. 2017) in which only the coarsest map flows down, and only one level."""

    def __init__(self, in_channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(  # coarsest first
            nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, out_channels, kernel_size=1)))
            for channels in reversed(in_channels)
        )

    def forward(self, maps: tuple[Float[Tensor, "B _ _ _"], ...]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the three finest of the four maps with the decoder's channels, finest first as they came."""
        finest, finer, fine, coarse = (conv(map_) for conv, map_ in zip(reversed(self.convs), maps, strict=True))
        return finest, finer, fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
