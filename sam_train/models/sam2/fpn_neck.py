"""From Hiera's four maps to the three that SAM 2 uses (Ravi et al. 2024, appendix D.1)."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.sam2.hiera import Hiera, HieraConfig
from sam_train.models.staged_encoder import Maps, StagedEncoder


class FpnNeck(nn.Module):
    """A feature pyramid (Lin et al. 2017) in which only the coarsest map flows down, and only one level."""

    def __init__(self, in_channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(  # coarsest first
            nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, out_channels, kernel_size=1)))
            for channels in reversed(in_channels)
        )

    def forward(self, maps: tuple[Float[Tensor, "B _ _ _"], ...]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """From four maps to the three finest, finest first as they came."""
        finest, finer, fine, coarse = (conv(map_) for conv, map_ in zip(reversed(self.convs), maps, strict=True))
        return finest, finer, fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest")


class ImageEncoder(StagedEncoder):
    """SAM 2's image encoder."""

    def __init__(self, config: HieraConfig, out_channels: int) -> None:
        super().__init__()
        self.trunk = Hiera(config)
        self.neck = FpnNeck(config.stage_dims, out_channels)

    @property
    def steps(self) -> list[nn.Module]:
        """The trunk's."""
        return self.trunk.steps

    def start(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        """As the trunk's."""
        return self.trunk.start(images)

    def advance(self, step: nn.Module, maps: Maps) -> Maps:
        """As the trunk's."""
        return self.trunk.advance(step, maps)

    def finish(self, maps: Maps) -> Maps:
        """Maps of the images at a 4th, 8th and 16th of their side."""
        return self.neck(self.trunk.finish(maps))
