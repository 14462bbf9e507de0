"""SAM's position tables belong to one input size; these are the names, shapes and values they have at others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sam_train.models import ImageModel
from sam_train.models.sam.vit import ViTConfig, resize_position_embedding, resize_relative_positions

_ABSOLUTE = "image_encoder.pos_embed"


def _tables(encoder: ViTConfig) -> list[str]:
    """The absolute one and those of global attention; the ones of windows do not depend on the input's size."""
    relative = [f"image_encoder.blocks.{block}.attn.rel_pos_{axis}" for block in encoder.global_blocks for axis in "hw"]
    return [_ABSOLUTE, *relative]


def tables_at_input_size(model: ImageModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The position tables of a state dict for the model's input, exactly as its encoder resizes them; of a ViT."""
    encoder = model.config.encoder
    if not isinstance(encoder, ViTConfig):
        return {}
    grid = model.preprocessing.image_size // encoder.patch_size
    tables = _tables(encoder)
    resized = {name: resize_relative_positions(state[name], grid) for name in tables if name != _ABSOLUTE}
    return resized | {_ABSOLUTE: resize_position_embedding(state[_ABSOLUTE], (grid, grid))}


def table_shapes(model: ImageModel) -> dict[str, set[tuple[int, ...]]]:
    """The shapes that each position table may have in a file: for the preset's own and for the model's input size."""
    encoder = model.config.encoder
    if not isinstance(encoder, ViTConfig):
        return {}
    grids = {size // encoder.patch_size for size in (encoder.image_size, model.preprocessing.image_size)}
    head_dim = encoder.embed_dim // encoder.num_heads
    shapes = {name: {(2 * grid - 1, head_dim) for grid in grids} for name in _tables(encoder)}
    return shapes | {_ABSOLUTE: {(1, grid, grid, encoder.embed_dim) for grid in grids}}


def table_input_size(model: ImageModel, state: Mapping[str, Tensor]) -> int:
    """Side in pixels of the input that a state dict's position tables were made for; of a ViT."""
    encoder = model.config.encoder
    assert isinstance(encoder, ViTConfig)
    return state[_ABSOLUTE].shape[1] * encoder.patch_size
