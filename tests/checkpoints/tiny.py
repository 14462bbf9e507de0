"""SAMs and SAM 2s that are built, saved and loaded in milliseconds, with weights that all have an effect."""

from dataclasses import replace

import torch

from sam_train.models.sam.sam import Sam, SamConfig
from sam_train.models.sam.vit import ViTConfig
from sam_train.models.sam2.hiera import HieraConfig
from sam_train.models.sam2.sam2 import Sam2, Sam2Config
from sam_train.preprocessing import Preprocessing

CONFIG = SamConfig(
    encoder=ViTConfig(
        embed_dim=24, depth=4, num_heads=3, global_blocks=(1, 3), mlp_dim=40, image_size=128, window_size=3
    ),
    preprocessing=Preprocessing(image_size=128),
    dim=32,
    decoder_heads=4,
    decoder_mlp_dim=48,
)

SAM2_CONFIG = Sam2Config(
    encoder=HieraConfig(
        embed_dim=8, num_heads=1, depths=(1, 2, 3, 1), global_blocks=(4,), window_sizes=(8, 4, 6, 2), background_size=5
    ),
    preprocessing=Preprocessing(128, "square"),
    version="2.1",
    dim=32,
    decoder_heads=4,
    decoder_mlp_dim=48,
)


def at_size(image_size: int, config: SamConfig | Sam2Config = CONFIG) -> SamConfig | Sam2Config:
    """The config with the same weights for another input size."""
    return replace(config, preprocessing=replace(config.preprocessing, image_size=image_size))


@torch.no_grad()
def randomize(model: torch.nn.Module, seed: int = 0) -> None:
    """Draw weights: matrices preserve the scale of activations; norms, biases and tables differ from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict(keep_vars=True).items():
        fan_in = tensor[0].numel() if tensor.ndim > 1 and "embed" not in name and "rel_pos" not in name else 4
        tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan_in**0.5)
        if tensor.ndim == 1 and name.endswith("weight"):
            tensor.add_(1)


def build(config: SamConfig | Sam2Config = CONFIG, seed: int = 0) -> Sam | Sam2:
    model = config.build().eval()
    randomize(model, seed)
    return model


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether names, shapes, dtypes and bits are the same."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)
