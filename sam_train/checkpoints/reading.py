"""Tensors from a file, a folder or the hub, without running anything a file contains."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sam_train.errors import InputError

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB_FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
_OLD_FILE = "pytorch_model.bin"  # what folders hold that were written before safetensors
_FORMS = "a .pth or .safetensors file, a Hugging Face folder, or a hub id such as facebook/sam-vit-base"

SHIPPED = {file.stem: file for file in (Path(__file__).parents[1] / "weights").glob("*.safetensors")}
"""Weights that come with the package, by the name under which they are loaded; beside each its model card."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file, folder or hub repository holds.

    Attributes:
        source: What to call it in messages.
        content: Tensors by name, possibly below training state and wrappers.
        config: A Hugging Face folder's config.json.
    """

    source: str
    content: Mapping[str, Any]
    config: Mapping[str, Any] | None = None


def read_checkpoint(path_or_hub_id: str | Path) -> Checkpoint:
    """Whatever lies at a path or, where there is no such path, at a hub id.

    Raises:
        InputError: If there is nothing, the hub cannot be reached, or the file is not a checkpoint or not a whole one.
    """
    if str(path_or_hub_id) in SHIPPED:
        return Checkpoint(source=f"the package's {path_or_hub_id}", content=read_file(SHIPPED[str(path_or_hub_id)]))
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if path.exists():
        return Checkpoint(source=str(path), content=read_file(path))
    hub_id = str(path_or_hub_id)
    if _HUB_ID.fullmatch(hub_id) and path.suffix not in _SUFFIXES:
        folder = _download(hub_id)
        if not any(folder.glob("*model*.*")):
            raise InputError(
                f"{hub_id}: that repository of the hub has neither model.safetensors nor {_OLD_FILE}; download the "
                "file of weights that it has and give its path"
            )
        return replace(_read_folder(folder), source=f"{hub_id} (hub)")
    raise InputError(f"no checkpoint at {path}: there is no such file or folder. Give {_FORMS}")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=list(_HUB_FILES)))
        if not any(folder.glob("model*.safetensors*")):
            folder = Path(snapshot_download(hub_id, allow_patterns=["config.json", _OLD_FILE]))
        return folder
    except Exception as error:  # the client's own, its transport's and the system's: all mean that there are no files
        raise InputError(
            f"{hub_id}: there is no such file or folder here, and the hub gave none ({_first_line(error)}). Where the "
            "hub cannot be reached, download config.json and model.safetensors of that repository elsewhere, put both "
            "into one folder and give the folder's path instead"
        ) from error


def _read_folder(folder: Path) -> Checkpoint:
    if not (folder / "config.json").is_file():
        inside = sorted(file.name for file in folder.iterdir() if file.suffix in _SUFFIXES)
        hint = f"give the path of a file in it ({', '.join(inside[:5])})" if inside else f"give {_FORMS}"
        raise InputError(f"{folder}: a Hugging Face folder has a config.json, this one has none; {hint}")
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        content = read_file(whole)
    elif index.is_file():
        content = _read_shards(folder, _read_json(index))
    elif (folder / _OLD_FILE).is_file():
        content = read_file(folder / _OLD_FILE)
    else:
        raise InputError(
            f"{folder}: config.json is there but no model.safetensors; download it into the folder, or give the path "
            "of a weights file (.safetensors, .bin, .pth) itself"
        )
    return Checkpoint(source=str(folder), content=content, config=_read_json(folder / "config.json"))


def _read_shards(folder: Path, index: Mapping[str, Any]) -> dict[str, Tensor]:
    shards = sorted(set(index.get("weight_map", {}).values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing or not shards:
        raise InputError(f"{folder}: model.safetensors.index.json names files that are not there: {missing}")
    return {name: tensor for shard in shards for name, tensor in read_file(folder / shard).items()}


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not readable as JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a JSON object, found a {type(content).__name__}; download it again")
    return content


def read_file(file: Path) -> Mapping[str, Any]:
    """What a file holds, without running anything in it.

    Raises:
        InputError: If it is damaged, or holds more than tensors and plain values.
    """
    with file.open("rb") as stream:
        head = stream.read(64)
    is_zip, is_pickle, is_safetensors = head[:2] == b"PK", head[:1] == b"\x80", head[8:9] == b"{"
    if is_zip and not zipfile.is_zipfile(file):
        raise InputError(f"{file}: the end of the file is missing; download or copy it again")
    if not (is_zip or is_pickle or is_safetensors):
        raise InputError(f"{file}: not a checkpoint but {_describe(head)}; download it again or give {_FORMS}")
    try:
        content = load_file(file) if is_safetensors else torch.load(file, "cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        raise InputError(
            f"{file}: holds {foreign[1] if foreign else 'something'} besides tensors and plain values, or is damaged. "
            "Reading such objects can run code, so it is not opened. If you trust its author, save the tensors alone: "
            "torch.save(torch.load(path, weights_only=False)['model'], new_path)"
        ) from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise InputError(f"{file}: damaged or not a checkpoint ({_first_line(error)}); download it again") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{file}: expected tensors by name, found a {type(content).__name__}; give {_FORMS}")
    return content


def _describe(head: bytes) -> str:
    if not head:
        return "empty (0 bytes)"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (the address led to a page about the file, not to the file)"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (fetch the file behind it with git lfs pull)"
    return f"a file that begins with {head[:12]!r}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
