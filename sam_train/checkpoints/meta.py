"""The official checkpoints: names as in our models, and what training codes wrap around them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from sam_train.checkpoints.reading import Checkpoint
from sam_train.errors import InputError
from sam_train.models import ImageModel
from sam_train.models.sam2.sam2 import Sam2

EXTRAS = ("pixel_mean", "pixel_std")
"""What some files carry besides weights: the constants of preprocessing, which our models have in their config."""

# Every model of the family has this tensor, in Meta's naming (SAM 2: sam_mask_decoder) and in Hugging Face's, so what
# stands before it is what the author's code put around the model: "module.", "model.", "sam.".
_ANCHOR = re.compile(r"((?:.*\.)?)(?:sam_)?mask_decoder\.iou_token\.weight")


def official_content(model: ImageModel, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """A state dict as the official code saves it: SAM as it is, SAM 2 below "model"."""
    return {"model": dict(state)} if isinstance(model, Sam2) else dict(state)


def find_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The one model in a checkpoint: below wrappers such as {"model": ...}, without a common prefix of its names.

    Raises:
        InputError: If there is no model of the family, or more than one.
    """
    models = list(_find_models(checkpoint.content))
    if not models:
        found = ", ".join(map(str, list(checkpoint.content)[:4])) or "nothing"
        raise InputError(
            f"{checkpoint.source}: no SAM in it: there is no mask_decoder.iou_token.weight; it holds {found}, ..."
        )
    if len(models) > 1:
        where = ", ".join(repr(f"{path}{prefix}") for path, prefix, _ in models)
        raise InputError(
            f"{checkpoint.source}: {len(models)} models in it, at {where}; save the one you mean to a file of its own"
        )
    _, prefix, tensors = models[0]
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _find_models(content: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """Of every model in nested mappings: the way to it, the prefix of its names, the tensors beside it."""
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    for name in tensors:
        if match := _ANCHOR.fullmatch(name):
            yield path, match[1], tensors
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _find_models(value, f"{path}{name}/")
