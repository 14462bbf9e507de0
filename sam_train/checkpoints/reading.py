"""Checkpoints by path, by hub id, or by the name of weights that come with the package."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sam_train.checkpoints.tensor_files import FORMS, first_line, read_file
from sam_train.errors import FileError, InputError, Problem

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB_FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
_OLD_FILE = "pytorch_model.bin"  # in folders that were written before safetensors
_INDEX = "model.safetensors.index.json"

SHIPPED = {
    card.stem: sorted(card.parent.glob(f"{card.stem}.*safetensors"))
    for card in (Path(__file__).parents[1] / "weights").glob("*.md")
}
"""Files of the weights that come with the package, by the name under which they are loaded, which a model card has."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file, folder or hub repository.

    Attributes:
        source: Its name in messages.
        content: Tensors by name, possibly below training state and wrappers.
        config: A Hugging Face folder's config.json.
    """

    source: str
    content: Mapping[str, Any]
    config: Mapping[str, Any] | None = None


def read_checkpoint(path_or_hub_id: str | Path) -> Checkpoint:
    """Return what lies at a path or, where there is no such path, at a hub id.

    Raises:
        InputError: If there is nothing, the hub cannot be reached, or the file is not a checkpoint or is incomplete.
    """
    if str(path_or_hub_id) in SHIPPED:
        files = map(read_file, SHIPPED[str(path_or_hub_id)])
        content = {name: tensor for content in files for name, tensor in content.items()}
        return Checkpoint(source=f"the package's {path_or_hub_id}", content=content)
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if path.exists():
        return Checkpoint(source=str(path), content=read_file(path, stand_ins=True))
    hub_id = str(path_or_hub_id)
    if _HUB_ID.fullmatch(hub_id) and path.suffix not in _SUFFIXES:
        folder = _download(hub_id)
        if not any(folder.glob("*model*.*")):
            raise InputError(
                f"{hub_id}: this repository of the hub has neither model.safetensors nor {_OLD_FILE}; download its "
                "weights file and give its path"
            )
        return replace(_read_folder(folder), source=f"{hub_id} (hub)")
    raise InputError(f"no checkpoint at {path}: there is no such file or folder. Give {FORMS}")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=list(_HUB_FILES)))
        if not any(folder.glob("model*.safetensors*")):
            folder = Path(snapshot_download(hub_id, allow_patterns=["config.json", _OLD_FILE]))
        return folder
    except Exception as error:  # the client's own, its transport's and the system's: all mean that there are no files
        raise InputError(
            f"{hub_id}: there is no such file or folder, and it could not be downloaded from the hub "
            f"({first_line(error)}). Where the hub cannot be reached, download config.json and model.safetensors of "
            "that repository elsewhere, put both into one folder and give the folder's path instead"
        ) from error


def _read_folder(folder: Path) -> Checkpoint:
    if (folder / "adapter_config.json").is_file():
        raise _problem(
            folder,
            "a folder of PEFT, which holds adapters and not the model that they belong to",
            "merge them: PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new_folder), where "
            "base is the model of transformers that was tuned; and give new_folder",
        )
    if not (folder / "config.json").is_file():
        inside = sorted(file.name for file in folder.iterdir() if file.suffix in _SUFFIXES)
        hint = f"give the path of a file in it ({', '.join(inside[:5])})" if inside else f"give {FORMS}"
        raise _problem(folder, "a Hugging Face folder has a config.json, this one has none", hint)
    if (folder / "model.safetensors").is_file():
        content = read_file(folder / "model.safetensors")
    elif (folder / _INDEX).is_file():
        content = _read_shards(folder)
    elif (folder / _OLD_FILE).is_file():
        content = read_file(folder / _OLD_FILE, stand_ins=True)
    else:
        raise _problem(
            folder,
            "config.json is there but no model.safetensors",
            "download it into the folder, or give the path of a weights file (.safetensors, .bin, .pth) itself",
        )
    return Checkpoint(source=str(folder), content=content, config=_read_json(folder / "config.json"))


def _read_shards(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of all shards that the folder's index names; names must stay inside the folder."""
    shards = _read_json(folder / _INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise _problem(folder / _INDEX, "weight_map does not say which file each tensor is in", "download it again")
    names = sorted(set(shards.values()))
    if outside := [name for name in names if Path(name).name != name or "\\" in name]:
        raise _problem(folder / _INDEX, f"names files outside of the folder: {outside}", "get it from another source")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise _problem(folder / _INDEX, f"names files that are not there: {missing}", "download them into the folder")
    return {name: tensor for shard in names for name, tensor in read_file(folder / shard).items()}


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _problem(file, f"not readable as JSON ({first_line(error)})", "download it again") from error
    if not isinstance(content, dict):
        raise _problem(file, f"expected a JSON object, found a {type(content).__name__}", "download it again")
    return content


def _problem(path: Path, found: str, remedy: str) -> FileError:
    return FileError(Problem("checkpoint", path, found, remedy))
