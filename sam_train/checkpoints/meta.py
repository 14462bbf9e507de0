"""Official checkpoints, whose names are those of our models, and the wrappers that training codes put around them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sam_train.checkpoints.foreign import recognize
from sam_train.checkpoints.reading import Checkpoint
from sam_train.checkpoints.tensor_files import StandIn
from sam_train.errors import InputError
from sam_train.models import ImageModel
from sam_train.models.sam2.sam2 import Sam2

EXTRAS = ("pixel_mean", "pixel_std")
"""Tensors that some files hold beside weights: constants of preprocessing, which our models have in their config."""

WRAPPERS = ("module", "_orig_mod")
"""Parts that DataParallel and ``torch.compile`` add to names wherever they wrap a module."""

_DEEPEST = 50  # dictionaries within each other; training codes have up to five

# Every model of the family has this tensor, in Meta's naming (SAM 2: sam_mask_decoder) and in Hugging Face's. Anything
# before it was added by code around the model: "model.", "sam.".
_ANCHOR = re.compile(r"((?:.*\.)?)(?:sam_)?mask_decoder\.iou_token\.weight")


def official_content(model: ImageModel, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a state dict as the official code saves it: SAM as it is, SAM 2 below "model"."""
    return {"model": dict(state)} if isinstance(model, Sam2) else dict(state)


def find_weights(checkpoint: Checkpoint, own_names: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights of the one model in a checkpoint, without the wrappers and prefixes around it.

    Args:
        checkpoint: The content that was read.
        own_names: Names in the state dict of the model to load; parts that occur in them are not taken for wrappers.

    Raises:
        InputError: If there is no model of the family, or more than one.
    """
    wrappers = set(WRAPPERS).difference(*(name.split(".") for name in own_names))
    states = list(_find_states(checkpoint))
    models = [model for state in states for model in _find_models(state, wrappers)]
    if not models:
        names = [name for state in states for name in state.tensors]
        found = ", ".join(map(str, [*checkpoint.content][:4])) or "nothing"
        what = recognize(names) or f"no SAM in it: there is no mask_decoder.iou_token.weight; it holds {found}, ..."
        raise InputError(f"{checkpoint.source}: {what}")
    if len(models) > 1:
        where = ", ".join(repr(f"{path}{prefix}") for path, prefix, _ in models)
        raise InputError(
            f"{checkpoint.source}: {len(models)} models in it, at {where}; save the one you mean to a file of its own"
        )
    return models[0].tensors


class _State(NamedTuple):
    """Tensors of one mapping or module, the keys that lead to them, and the prefix that was taken off their names."""

    path: str
    prefix: str
    tensors: dict[str, Tensor]


def _find_states(checkpoint: Checkpoint) -> Iterator[_State]:
    """Yield the tensors of every mapping and pickled module, outermost first."""

    def visit(content: Mapping[Any, Any], path: str, above: tuple[int, ...]) -> Iterator[_State]:
        if id(content) in above or len(above) > _DEEPEST:
            raise InputError(f"{checkpoint.source}: dictionaries within each other without end; save the weights alone")
        named = ((name, value) for name, value in content.items() if isinstance(name, str))
        yield _State(path, "", {name: value for name, value in named if isinstance(value, Tensor)})
        for name, value in content.items():
            if isinstance(value, StandIn):
                yield _State(f"{path}{name}/", "", dict(value.tensors()))
            elif isinstance(value, Mapping):
                yield from visit(value, f"{path}{name}/", (*above, id(content)))

    return visit(checkpoint.content, "", ())


def _find_models(state: _State, wrappers: Container[str]) -> Iterator[_State]:
    """Yield the models among the tensors of one mapping or module."""
    names = {name: ".".join(part for part in name.split(".") if part not in wrappers) for name in state.tensors}
    for plain in names.values():
        if match := _ANCHOR.fullmatch(plain):
            prefix = match[1]
            tensors = {names[name].removeprefix(prefix): tensor for name, tensor in state.tensors.items()}
            yield _State(state.path, prefix, tensors)
