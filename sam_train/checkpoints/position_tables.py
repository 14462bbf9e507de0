"""Position tables belong to one input size; these are the shapes and values they have at others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sam_train.models import ImageModel
from sam_train.models.checkpoint_layout import PositionTable

_LARGEST_INPUT = 1 << 13  # pixels: eight times the side that any model was released for


def _tables(model: ImageModel) -> dict[str, PositionTable]:
    """Return what the image encoder declares, under the model's names."""
    return {f"image_encoder.{name}": table for name, table in model.image_encoder.position_tables().items()}


def tables_at_input_size(model: ImageModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict's position tables for the model's input, exactly as its image encoder resizes them."""
    size = model.preprocessing.image_size
    return {name: table.resize(state[name], size) for name, table in _tables(model).items()}


def table_shapes(model: ImageModel) -> dict[str, set[tuple[int, ...]]]:
    """Return the shapes that each position table may have in a file: for the encoder's own or the model's input."""
    size = model.preprocessing.image_size
    return {name: {table.shape(table.image_size), table.shape(size)} for name, table in _tables(model).items()}


def table_input_size(model: ImageModel, state: Mapping[str, Tensor]) -> int | None:
    """Return the side in pixels of the input that all position tables of a state dict fit; None if there is none."""
    step, tables = model.config.encoder.size_multiple, _tables(model)
    for size in range(step, _LARGEST_INPUT + 1, step):
        if all(table.shape(size) == tuple(state[name].shape) for name, table in tables.items()):
            return size
    return None
