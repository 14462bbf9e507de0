"""A light head on an image's features that says where objects are, of what kind and how large: CenterNet's maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.centers import CenterMaps
from sam_train.models.layers import LayerNorm2d
from sam_train.structures import ImageFeatures

_WIDTHS = (128, 64, 64)  # channels at a sixteenth, an eighth and a quarter of the input's side
_DEPTHS = (3, 1, 1)  # blocks there: coarse cells are few and see far
_FIRST_HEAT = 0.1  # of an untrained head everywhere (Zhou et al. 2019, section 5)


class CenterHead(nn.Module):
    """Maps of objects' centers, sizes and kinds (Zhou et al., "Objects as Points", 2019).

    It reads the image embedding and, of SAM 2, the finer features, and returns maps at a quarter of the input's side
    for every model: nuclei of ten pixels have cells of their own.

    Args:
        feature_channels: Of the features that are read, as :attr:`PromptableModel.feature_channels` has them.
        num_categories: C.
    """

    def __init__(self, feature_channels: Sequence[int], num_categories: int) -> None:
        super().__init__()
        self.entries = nn.ModuleList(map(_entry, feature_channels, _WIDTHS))
        self.steps = nn.ModuleList(nn.Conv2d(a, b, kernel_size=1) for a, b in pairwise(_WIDTHS))
        stages = zip(_WIDTHS, _DEPTHS, strict=True)
        self.stages = nn.ModuleList(nn.Sequential(*(_Block(width) for _ in range(depth))) for width, depth in stages)
        self.last = nn.Sequential(LayerNorm2d(_WIDTHS[-1]), nn.Conv2d(_WIDTHS[-1], num_categories + 4, kernel_size=1))
        nn.init.constant_(self.last[1].bias[:num_categories], math.log(_FIRST_HEAT / (1 - _FIRST_HEAT)))  # pyright: ignore[reportArgumentType, reportIndexIssue]

    def forward(self, features: ImageFeatures) -> CenterMaps:
        """Return the maps of some images."""
        levels = (features.embedding, *features.high_res[::-1])
        x = self.stages[0](self.entries[0](levels[0]))
        for number, (step, stage) in enumerate(zip(self.steps, self.stages[1:], strict=True), start=1):
            x = F.interpolate(step(x), scale_factor=2.0, mode="bilinear")
            x = stage(x + self.entries[number](levels[number]) if len(levels) > 1 else x)
        found = self.last(x)
        return CenterMaps(found[:, :-4], found[:, -4:-2], found[:, -2:])


def _entry(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(LayerNorm2d(channels), nn.Conv2d(channels, width, kernel_size=1))


class _Block(nn.Module):
    """A convolution that adds to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(width)
        self.conv = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return x + F.gelu(self.conv(self.norm(x)))
