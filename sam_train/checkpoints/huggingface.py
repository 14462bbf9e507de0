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
from sam_train.models.sam.sam import Sam
from sam_train.models.sam2.sam2 import Sam2

Renames = Mapping[str, str | tuple[str, ...]]
"""Beginnings of official names and what they are in ``transformers``; the first that matches counts, a name without a
match is the same in both.

``{}`` stands for a number. Several names on the right are copies of one tensor; a name that ends in ``[{}]`` is a row
of a stacked table.
"""


@dataclass(frozen=True)
class Layout:
    """How ``transformers`` stores one model.

    Attributes:
        renames: The names it uses.
        stores_copies: Whether all copies of a tensor with several names are stored, or the first alone.
        config: The model's config.json, without the dtype.
        image_config: The same where the weights that images do not need are not stored.
        processors: Other files of the folder, which say how images become the model's input.
    """

    renames: Renames
    stores_copies: bool
    config: Mapping[str, Any]
    image_config: Mapping[str, Any]
    processors: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Family:
    """How ``transformers`` stores the models of one class, given a model and its image encoder's ``vision_config``."""

    renames: Renames
    stores_copies: bool
    config: Callable[[Any, Mapping[str, Any]], dict[str, Any]]
    image_config: Callable[[Any, Mapping[str, Any]], dict[str, Any]]
    processors: Callable[[Any], dict[str, dict[str, Any]]]


_FAMILIES: Mapping[type, _Family] = MappingProxyType(
    {
        Sam: _Family(SAM_RENAMES, False, sam_config, sam_config, sam_processors),
        Sam2: _Family(SAM2_RENAMES, True, sam2_whole_config, sam2_config, sam2_processors),
    }
)


def layout_of(model: ImageModel) -> Layout | None:
    """Return the layout of a model; None if ``transformers`` has no model with its image encoder."""
    family, encoder = _FAMILIES[type(model)], model.image_encoder.huggingface(model.preprocessing.image_size)
    if encoder is None:
        return None
    own = {f"image_encoder.{name}": f"vision_encoder.{theirs}" for name, theirs in encoder.renames.items()}
    return Layout(
        renames={**own, "image_encoder": "vision_encoder", **family.renames},
        stores_copies=family.stores_copies,
        config=family.config(model, encoder.vision_config),
        image_config=family.image_config(model, encoder.vision_config),
        processors=family.processors(model),
    )


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    return re.compile(re.escape(beginning).replace(r"\{\}", r"(\d+)") + r"(|\..*)")


def huggingface_names(name: str, renames: Renames) -> tuple[str, ...]:
    """Return all names that a tensor with this official name has in ``transformers``."""
    for beginning, theirs in renames.items():
        if match := _pattern(beginning).fullmatch(name):
            *numbers, rest = match.groups()
            return tuple(t.format(*numbers) + rest for t in ([theirs] if isinstance(theirs, str) else theirs))
    return (name,)


def _split_row(name: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.*)\[(\d+)\]", name)
    return (match[1], int(match[2])) if match else (name, None)


def to_huggingface(state: Mapping[str, Tensor], renames: Renames, stores_copies: bool) -> dict[str, Tensor]:
    """Return a state dict with official names as ``transformers`` stores it, with all copies of a tensor or one."""
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
    """Return the tensors of ``transformers`` under these official names, and the names that nothing asked for."""
    state: dict[str, Tensor] = {}
    unclaimed = dict.fromkeys(tensors)
    for name in names:
        for source, row in map(_split_row, huggingface_names(name, renames)):
            unclaimed.pop(source, None)
            if source in tensors:
                state.setdefault(name, tensors[source] if row is None else tensors[source][row : row + 1])
    return state, list(unclaimed)


def is_huggingface(names: Iterable[str]) -> bool:
    """Return whether these are the names of ``transformers`` rather than the official ones."""
    return any(name.startswith("vision_encoder.") for name in names)


def config_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the sizes on which two config.json disagree, in words.

    The number of heads or the window can differ where every shape agrees. The input's size may differ, and what
    follows from it: SAM's position tables show which it is and are resized; the weights of SAM 2 fit every size.
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
