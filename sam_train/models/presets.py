"""The models by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from sam_train.errors import InputError
from sam_train.models.sam.sam import Sam, SamConfig
from sam_train.models.sam.tiny_vit import TinyViTConfig
from sam_train.models.sam.vit import ViTConfig
from sam_train.models.sam2.hiera import HieraConfig
from sam_train.models.sam2.sam2 import Sam2, Sam2Config
from sam_train.preprocessing import Preprocessing

ModelConfig: TypeAlias = SamConfig | Sam2Config
ImageModel: TypeAlias = Sam | Sam2

_SAM = Preprocessing(image_size=1024)
_SAM2 = Preprocessing(image_size=1024, resize="square")
_HIERA = {
    "tiny": HieraConfig(embed_dim=96, num_heads=1, depths=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    "small": HieraConfig(embed_dim=96, num_heads=1, depths=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "base_plus": HieraConfig(
        embed_dim=112, num_heads=2, depths=(2, 3, 16, 3), global_blocks=(12, 16, 20), background_size=14
    ),
    "large": HieraConfig(
        embed_dim=144, num_heads=2, depths=(2, 6, 36, 4), global_blocks=(23, 33, 43), window_sizes=(8, 4, 16, 8)
    ),
}

PRESETS: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "sam_nano": SamConfig(
            encoder=ViTConfig(
                embed_dim=192,
                depth=10,
                num_heads=6,
                global_blocks=(2, 5, 8, 9),
                mlp_dim=768,
                image_size=256,
                window_size=8,
            ),
            preprocessing=Preprocessing(image_size=256),
            dim=128,
            decoder_mlp_dim=512,
        ),
        "sam2_nano": Sam2Config(
            encoder=HieraConfig(
                embed_dim=48, num_heads=1, depths=(1, 1, 5, 1), global_blocks=(4, 6), window_sizes=(8, 4, 8, 8)
            ),
            preprocessing=Preprocessing(image_size=256, resize="square"),
            version="2.1",
            dim=128,
            decoder_mlp_dim=512,
        ),
        "sam_vit_b": SamConfig(
            encoder=ViTConfig(embed_dim=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11), mlp_dim=3072),
            preprocessing=_SAM,
        ),
        "sam_vit_l": SamConfig(
            encoder=ViTConfig(embed_dim=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23), mlp_dim=4096),
            preprocessing=_SAM,
        ),
        "sam_vit_h": SamConfig(
            encoder=ViTConfig(embed_dim=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31), mlp_dim=5120),
            preprocessing=_SAM,
        ),
        # Chen et al., "SlimSAM", 2024: ViT-B with a half and with 77% of its weights pruned.
        "slimsam_50_uniform": SamConfig(
            encoder=ViTConfig(embed_dim=384, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11), mlp_dim=1536),
            preprocessing=_SAM,
        ),
        "slimsam_77_uniform": SamConfig(
            encoder=ViTConfig(embed_dim=168, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11), mlp_dim=696),
            preprocessing=_SAM,
        ),
        "mobile_sam": SamConfig(encoder=TinyViTConfig(), preprocessing=_SAM),
        **{f"sam2_hiera_{size}": Sam2Config(hiera, _SAM2, version="2.0") for size, hiera in _HIERA.items()},
        **{f"sam2.1_hiera_{size}": Sam2Config(hiera, _SAM2, version="2.1") for size, hiera in _HIERA.items()},
    }
)


def model_config(preset: str, image_size: int | None = None) -> ModelConfig:
    """Return the configuration of a model by name.

    Args:
        preset: A key of :data:`PRESETS`.
        image_size: Side of the square input in pixels; by default the side that the preset was trained with.

    Raises:
        InputError: If there is no such preset, or its image encoder cannot take the size.
    """
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=3, cutoff=0.4)
        raise InputError(f"no model {preset!r}; nearest: {', '.join(near) or '-'}; all: {', '.join(PRESETS)}")
    config = PRESETS[preset]
    if image_size is not None:
        step = config.encoder.size_multiple
        if image_size < step or image_size % step:
            raise InputError(f"image_size={image_size}: {preset} takes multiples of {step}, such as 256, 512 or 1024")
        config = replace(config, preprocessing=replace(config.preprocessing, image_size=image_size))
    return config


def build_model(preset: str, image_size: int | None = None) -> ImageModel:
    """Return a model by name, with fresh random weights.

    Args:
        preset: A key of :data:`PRESETS`.
        image_size: Side of the square input in pixels; by default the side that the preset was trained with. Position
            embeddings are interpolated, so weights of the preset load at every size.

    Raises:
        InputError: See :func:`model_config`.
    """
    return model_config(preset, image_size).build()
