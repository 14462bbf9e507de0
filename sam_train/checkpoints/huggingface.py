"""The layout of ``transformers``: other names for the same tensors, and the model's sizes in config.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sam_train.checkpoints.huggingface_sam import SAM_RENAMES, sam_config, sam_processors
from sam_train.checkpoints.huggingface_sam2 import SAM2_RENAMES, sam2_config, sam2_processors, sam2_whole_config
from sam_train.models import ImageModel
from sam_train.models.sam.vit import ViTConfig
from sam_train.models.sam2.hiera import HieraConfig

Renames = Mapping[str, str | tuple[str, ...]]
"""Beginnings of official names and what they are in ``transformers``; the first that fits counts, what fits none is
the same in both.

``{}`` stands for a number. Several names on the right are copies of one tensor; a name that ends in ``[{}]`` is a row
of a stacked table.
"""


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    return re.compile(re.escape(beginning).replace(r"\{\}", r"(\d+)") + r"(|\..*)")


def huggingface_names(name: str, renames: Renames) -> tuple[str, ...]:
    """All names that a tensor with this official name has in ``transformers``."""
    for beginning, theirs in renames.items():
        if match := _pattern(beginning).fullmatch(name):
            *numbers, rest = match.groups()
            return tuple(t.format(*numbers) + rest for t in ([theirs] if isinstance(theirs, str) else theirs))
    return (name,)


def _split_row(name: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.*)\[(\d+)\]", name)
    return (match[1], int(match[2])) if match else (name, None)


def to_huggingface(state: Mapping[str, Tensor], renames: Renames, stores_copies: bool) -> dict[str, Tensor]:
    """A state dict with official names as ``transformers`` stores it: of copies all, or the first."""
    converted: dict[str, Tensor] = {}
    rows: dict[str, dict[int, Tensor]] = {}
    for name, tensor in state.items():
        first, *copies = huggingface_names(name, renames)
        target, row = _split_row(first)
        if row is None:
            converted[target] = tensor
        else:
            rows.setdefault(target, {})[row] = tensor
        if stores_copies:
            converted |= {copy: tensor.clone() for copy in copies}
    return converted | {name: torch.cat([table[row] for row in sorted(table)]) for name, table in rows.items()}


def from_huggingface(
    tensors: Mapping[str, Tensor], names: Iterable[str], renames: Renames
) -> tuple[dict[str, Tensor], list[str]]:
    """Of ``transformers``' tensors those with these official names, and the names of those that nothing asked for."""
    state: dict[str, Tensor] = {}
    unclaimed = dict.fromkeys(tensors)
    for name in names:
        for source, row in map(_split_row, huggingface_names(name, renames)):
            unclaimed.pop(source, None)
            if source in tensors:
                state.setdefault(name, tensors[source] if row is None else tensors[source][row : row + 1])
    return state, list(unclaimed)


@dataclass(frozen=True)
class Layout:
    """How ``transformers`` stores the models of one family.

    Attributes:
        renames: Its names.
        stores_copies: Whether of a tensor with several names all are stored, or the first.
        config: A model's config.json, without the dtype.
        image_config: The same where the weights that images do not need are not stored.
        processors: Other files of the folder, which say how images become a model's input.
    """

    renames: Renames
    stores_copies: bool
    config: Callable[[Any], dict[str, Any]]
    image_config: Callable[[Any], dict[str, Any]]
    processors: Callable[[Any], dict[str, dict[str, Any]]]


def layout_of(model: ImageModel) -> Layout | None:
    """The layout of a model, by its encoder; None if ``transformers`` has no such model."""
    return LAYOUTS.get(type(model.config.encoder))


def is_huggingface(names: Iterable[str]) -> bool:
    """Whether these are ``transformers``' names rather than the official ones."""
    return any(name.startswith("vision_encoder.") for name in names)


def config_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: str = "") -> list[str]:
    """Sizes on which two config.json disagree, in words.

    The number of heads or the window can differ where every shape agrees. The input's size may differ, and what
    follows from it: SAM's position tables say what it is, and they are resized; SAM 2's weights fit all.
    """
    found = []
    for key, own in ours.items():
        value = theirs.get(key)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            found += config_differences(value, own, f"{path}{key}.")
        elif isinstance(own, int | list) and key not in _FREE and value not in (None, own):
            found.append(f"{path}{key} is {value} in config.json, {own} in the model")
    return found


# What may differ: the class that opens the folder, and what follows from the input's size.
_FREE = ("architectures", "image_size", "backbone_feature_sizes", "memory_attention_rope_feat_sizes")

LAYOUTS: Mapping[type, Layout] = MappingProxyType(
    {
        ViTConfig: Layout(SAM_RENAMES, False, sam_config, sam_config, sam_processors),
        HieraConfig: Layout(SAM2_RENAMES, True, sam2_whole_config, sam2_config, sam2_processors),
    }
)
