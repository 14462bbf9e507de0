"""Weights that checkpoints hold and image models do not need, kept by name and shape so that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import nn

Shapes: TypeAlias = Iterable[tuple[str, tuple[int, ...]]]
"""Names of tensors and their shapes."""


def hold_unused_weights(model: nn.Module, shapes: Shapes) -> None:
    """Give ``model`` tensors of these names, zero until a checkpoint is loaded.

    They are buffers: part of the state dict, but never trained.
    """
    for name, shape in shapes:
        *path, leaf = name.split(".")
        module = model
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(leaf, torch.zeros(shape))


def linear_shapes(name: str, out: int, *rest: int) -> Shapes:
    """Return names and shapes of a weight and a bias: of a linear layer, a convolution or (``out`` alone) a norm."""
    return (f"{name}.weight", (out, *rest)), (f"{name}.bias", (out,))
