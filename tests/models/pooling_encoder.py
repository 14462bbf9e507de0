"""An image encoder as a user of the package would write it; the package does not know it."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from sam_train.models.encoder_block import EncoderBlock
from sam_train.models.layers import image_neck
from sam_train.models.sam.sam import SamConfig
from sam_train.models.staged_encoder import StagedEncoder
from sam_train.preprocessing import Preprocessing


@dataclass(frozen=True)
class PoolingConfig:
    dim: int
    depth: int
    stride: int = 16
    size_multiple: int = 16

    def build(self, out_channels):
        return PoolingEncoder(self, out_channels)


class Mixer(EncoderBlock):
    """Mixes each position with the mean of the image."""

    def __init__(self, dim):
        super().__init__()
        self.look = nn.Linear(dim, dim)
        self.think = nn.Linear(dim, dim)

    def attention_layers(self):
        return [self.look]

    def transform(self, x):
        return x + self.think(F.gelu(x + self.look(x.mean((1, 2), keepdim=True))))


class PoolingEncoder(StagedEncoder):
    def __init__(self, config, out_channels):
        super().__init__()
        self.patches = nn.Conv2d(3, config.dim, config.stride, config.stride)
        self.mixers = nn.ModuleList(Mixer(config.dim) for _ in range(config.depth))
        self.neck = image_neck(config.dim, out_channels)

    @property
    def steps(self):
        return list(self.mixers)

    def start(self, images):
        return (self.patches(images).permute(0, 2, 3, 1),)

    def finish(self, maps):
        return self.neck(maps[-1].permute(0, 3, 1, 2))

    def layer_groups(self):
        first, *rest = ([*mixer.parameters()] for mixer in self.mixers)
        return [[*self.patches.parameters()], first, *rest, [*self.neck.parameters()]]

    def undecayed_parameters(self):
        return [self.patches.weight]


CONFIG = SamConfig(PoolingConfig(dim=24, depth=3), Preprocessing(64), dim=32, decoder_heads=4, decoder_mlp_dim=48)
