"""Weights into a model and out of it, in the official layout and in the layout of ``transformers``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from sam_train.checkpoints.foreign import recognize
from sam_train.checkpoints.huggingface import (
    config_differences,
    from_huggingface,
    is_huggingface,
    layout_of,
    to_huggingface,
)
from sam_train.checkpoints.meta import EXTRAS, find_weights, official_content
from sam_train.checkpoints.position_tables import table_input_size, table_shapes, tables_at_input_size
from sam_train.checkpoints.reading import Checkpoint, read_checkpoint
from sam_train.checkpoints.report import Mismatch, group_names, guess
from sam_train.checkpoints.writing import Write, json_writer, write_files
from sam_train.errors import InputError
from sam_train.models import ImageModel

Format = Literal["meta", "huggingface"]


@torch.no_grad()
def load_checkpoint(model: ImageModel, path_or_hub_id: str | Path) -> None:
    """Load weights from a file, a Hugging Face folder or the hub into a model: all of them or none.

    Names tell Meta's from Hugging Face's layout. Weights inside training state, in a pickled model or with a prefix are
    found. Values are converted to the model's dtype and device. Position tables may be made for the encoder's own input
    size or for the model's; the model then has the tables of the file.

    A file may lack all of the weights that images do not need: SAM 2's memory where only the image model was saved, as
    ``transformers.Sam2Model`` does, or MobileSAM's classifier. They are then zero in the model.

    Args:
        model: A model without adapters.
        path_or_hub_id: A .pth or .safetensors file, a folder with config.json and model.safetensors, a hub id, or the
            name of weights that come with the package, such as ``sam_nano``.

    Raises:
        InputError: If there is no such checkpoint, or it does not fit the model in every name and shape; the model is
            left unchanged.
    """
    checkpoint = read_checkpoint(path_or_hub_id)
    if "sam_train" in checkpoint.content:
        raise InputError(
            f"{checkpoint.source}: a run's checkpoint, which holds the trained weights and not the whole model. Write "
            f"that with sam-export checkpoint={checkpoint.source} format=meta path=tuned.pth, and give tuned.pth"
        )
    own = model.state_dict(keep_vars=True)
    weights = find_weights(checkpoint, own)
    state, mismatch = _match(model, own, weights, checkpoint)
    if mismatch:
        if what := recognize(weights):
            raise InputError(f"{checkpoint.source}: {what}")
        summary = f"{checkpoint.source} does not fit the model. {mismatch.remedy or guess(weights, own)}"
        raise InputError(f"{summary}\n{mismatch.describe()}")
    for name, tensor in own.items():
        if tensor.shape == state[name].shape:
            tensor.copy_(state[name])
        else:
            tensor.data = state[name].to(tensor, copy=True)


def _match(
    model: ImageModel, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], checkpoint: Checkpoint
) -> tuple[dict[str, Tensor], Mismatch]:
    """Return the file's tensors under the model's names, and what does not fit."""
    layout = layout_of(model)
    differences: list[str] = []
    if is_huggingface(weights):
        state, unexpected = from_huggingface(weights, own, layout.renames if layout else {})
        if layout and checkpoint.config:
            differences = config_differences(checkpoint.config, layout.config)
    else:
        state = {name: tensor for name, tensor in weights.items() if name in own}
        unexpected = [name for name in weights if name not in own and name not in EXTRAS]
    tables = table_shapes(model)
    missing = [name for name in own if name not in state]
    if set(missing) == {name for name, _ in model.unused_shapes}:
        state |= {name: torch.zeros_like(own[name]) for name in missing}
        missing = []
    misshaped = {
        name: (tuple(tensor.shape), tuple(own[name].shape))
        for name, tensor in state.items()
        if tensor.shape != own[name].shape and tensor.shape not in tables.get(name, ())
    }
    remedy = ""
    only_tables = misshaped.keys() <= tables.keys() and not (missing or unexpected or differences)
    if misshaped and only_tables and (size := table_input_size(model, state)):
        remedy = f"Its position tables are for an input of {size} pixels: use model.image_size={size}."
    return state, Mismatch(missing, unexpected, misshaped, differences, remedy)


def save_checkpoint(
    model: ImageModel,
    path: str | Path,
    format: Format = "meta",  # noqa: A002 the word a person looks for
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Save a model's weights; a file at the path is replaced only when the new one is complete.

    Args:
        model: The model.
        path: ``meta``: the file, a .pth as the official code reads it. ``huggingface``: the folder, as
            ``from_pretrained`` of ``transformers.SamModel`` or ``Sam2Model`` reads it; position tables are written for
            the model's input size. A SAM 2 with a memory is written whole, for ``Sam2VideoModel`` too; one whose
            memory's weights are all zero is written as the image model that it is.
        format: The layout.
        state_dict: Weights to write instead of ``model.state_dict()``, under the same names: for a model with adapters,
            the weights with the adapters merged into them.

    Raises:
        InputError: If the format is unknown, the model has no such layout (``transformers`` has no MobileSAM), or
            weights are missing or do not belong to the model.
    """
    state = model.state_dict() if state_dict is None else state_dict
    _check_names(model, state)
    state = {name: tensor.detach().cpu() for name, tensor in state.items()}
    path = Path(path).expanduser()
    if format not in get_args(Format):
        raise InputError(f"format={format!r}: expected one of {', '.join(get_args(Format))}")
    if path.exists() and path.is_dir() != (format == "huggingface"):
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'a file'}, format={format!r} writes the other")
    if format == "huggingface" and (path / "adapter_config.json").exists():
        raise InputError(f"{path} holds adapters, which transformers would put on the model; name another folder")
    if format == "meta":
        write_files(path.parent, {path.name: lambda file: _save_official(model, state, file)})
    else:
        write_files(path, _huggingface_files(model, state))


def _save_official(model: ImageModel, state: Mapping[str, Tensor], file: Path) -> None:
    with file.open("wb") as stream:  # given a path, torch.save would write its name into the file
        torch.save(official_content(model, state), stream)


def _check_names(model: ImageModel, state: Mapping[str, Tensor]) -> None:
    with torch.device("meta"):
        plain = model.config.build().state_dict()
    wrong = group_names(plain.keys() ^ state.keys())
    if wrong:
        raise InputError(
            f"the weights to save are not those of a plain {type(model).__name__}: {', '.join(wrong[:4])}, ...; save "
            "the merged weights of a model with adapters (state_dict=...)"
        )


def _huggingface_files(model: ImageModel, state: dict[str, Tensor]) -> dict[str, Write]:
    layout = layout_of(model)
    if layout is None:
        raise InputError(
            f"format='huggingface': transformers has no {type(model).__name__} with the image encoder "
            f"{type(model.image_encoder).__name__}; use format='meta'"
        )
    unused = {name for name, _ in model.unused_shapes}
    has_unused = any(state[name].any() for name in unused)
    stored = {name: tensor for name, tensor in state.items() if has_unused or name not in unused}
    config = layout.config if has_unused else layout.image_config
    converted = to_huggingface(stored | tables_at_input_size(model, state), layout.renames, layout.stores_copies)
    tensors = {name: tensor.contiguous() for name, tensor in converted.items()}
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    return {
        "model.safetensors": lambda file: save_file(tensors, file, metadata={"format": "pt"}),
        **{name: json_writer(content) for name, content in layout.processors.items()},
        "config.json": json_writer({**config, "dtype": dtype}),
    }
