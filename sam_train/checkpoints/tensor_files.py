"""Tensors from one file, without running anything that the file contains."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from sam_train.errors import FileError, Problem

FORMS = "a .pth or .safetensors file, a Hugging Face folder, or a hub id such as facebook/sam-vit-base"
_AGAIN = f"download or copy it again, or give {FORMS}"

# What a number of numpy is pickled as; numpy 1 had another name for the same function.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefdFD"},
]


def _dictionary(*_: object) -> dict[Any, Any]:
    return {}


def _list(*_: object) -> list[Any]:
    return []


# Containers whose content follows after they are made, which torch's reader allows for plain ones alone.
_CONTAINERS = [(_dictionary, "collections.defaultdict"), (_list, "collections.deque")]
_DEEPEST = 50  # modules within each other


class StandIn:
    """Takes the place of every class and function that a file names, so that the file can be read and none of it runs.

    Attributes:
        state: The attributes of the object that was saved.
    """

    state: Mapping[Any, Any] = MappingProxyType({})

    def __init__(self, *_: object) -> None:
        """Take whatever the class or function would be given."""

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, Mapping) else {}

    def part(self, name: str) -> Mapping[Any, Any]:
        """Return an attribute that is a dictionary; empty where it is not."""
        value = self.state.get(name)
        return value if isinstance(value, Mapping) else {}

    def tensors(self, prefix: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights of a pickled ``torch.nn.Module`` under the names of its state dict."""
        for name, value in (*self.part("_parameters").items(), *self.part("_buffers").items()):
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
        for name, child in self.part("_modules").items():
            if isinstance(child, StandIn) and id(child) not in above and len(above) < _DEEPEST:
                yield from child.tensors(f"{prefix}{name}.", (*above, id(self)))


def read_file(file: Path, stand_ins: bool = False) -> Mapping[str, Any]:
    """Return what a file holds, without running anything in it.

    Args:
        file: A file of safetensors, or one that ``torch.save`` wrote.
        stand_ins: Read files that hold objects of other programs, too, with a :class:`StandIn` for each of them. A
            whole pickled model is then below the key "".

    Raises:
        FileError: If the file is damaged, or holds more than tensors and plain values.
    """
    with file.open("rb") as stream:
        head = stream.read(64)
    is_zip, is_pickle, is_safetensors = head[:2] == b"PK", head[:1] == b"\x80", head[8:9] == b"{"
    if is_zip and not zipfile.is_zipfile(file):
        raise _problem(file, "the end of the file is missing", _AGAIN)
    if not (is_zip or is_pickle or is_safetensors):
        raise _problem(file, f"not a checkpoint but {_describe(head)}", _AGAIN)
    try:
        content = load_file(file) if is_safetensors else _load(file, is_zip, stand_ins)
    except pickle.UnpicklingError as error:
        raise _foreign_objects(file, error) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes the readers fail anywhere, with whatever is raised there
        raise _problem(file, f"damaged or not a checkpoint ({first_line(error)})", _AGAIN) from error
    if isinstance(content, StandIn):
        return {"": content}
    if not isinstance(content, Mapping):
        raise _problem(file, f"expected tensors by name, found a {type(content).__name__}", f"give {FORMS}")
    return content


def _load(file: Path, mmap: bool, stand_ins: bool) -> Any:
    """Return what ``torch.save`` wrote; torch's own reader runs nothing but what is named as safe here."""
    names: list[str] = []
    while True:
        try:
            with safe_globals([*_NUMPY_NUMBERS, *_CONTAINERS, *((StandIn, name) for name in names)]):
                return torch.load(file, "cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            name = _foreign_name(error)
            if not stand_ins or name is None or name in names:
                raise
            names.append(name)


def _foreign_name(error: Exception) -> str | None:
    """Return the class or function that torch refused, by its full name; None if it refused something else."""
    match = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
    return match and (match[1] if "." in match[1] else f"builtins.{match[1]}")


def _foreign_objects(file: Path, error: Exception) -> FileError:
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    found = (
        f"holds {foreign[1] if foreign else 'something'} besides tensors and plain values, or is damaged. Reading such "
        "objects can run code, so it is not opened"
    )
    if "is blocked" in str(error):
        return _problem(file, found, "this one would reach into the system: ask for the weights as safetensors")
    return _problem(
        file,
        found,
        "if you trust its author, save the weights alone where the code that wrote it is installed: "
        "torch.save(model.state_dict(), new_path); torch.load(path, weights_only=False) returns or holds the model",
    )


def _describe(head: bytes) -> str:
    if not head:
        return "empty (0 bytes)"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (the address led to a page about the file, not to the file)"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (fetch the file behind it with git lfs pull)"
    return f"a file that begins with {head[:12]!r}"


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, for a sentence."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def _problem(file: Path, found: str, remedy: str) -> FileError:
    return FileError(Problem("checkpoint", file, found, remedy))
