"""Reads arrays of numpy's files, and nothing else: no objects, no more than a file may hold."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sam_train.errors import FileError, Problem

MOST_BYTES = 1 << 32
"""Of one array: a small file may claim, and unpack to, any number of them."""


def read_array(path: Path, name: str | None = None) -> np.ndarray | None:
    """Read an array of an npy file, or of an npz file by its name there; None where an npz file has none of the name.

    Raises:
        FileError: If the file is damaged or holds objects, or the array is too large.
    """
    try:
        if name is None:
            with path.open("rb") as file:
                return _read(file, path)
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return None
            with archive.open(f"{name}.npy") as file:
                return _read(file, path)  # pyright: ignore[reportArgumentType]
    except FileError:
        raise
    except Exception as error:  # of damaged zip files, headers and contents
        raise FileError(
            Problem("unreadable arrays", path, str(error) or type(error).__name__, "write it anew")
        ) from error


def _read(file: BinaryIO, path: Path) -> np.ndarray:
    """Read an array after its header has been looked at."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    if dtype.hasobject:
        found = "holds Python objects, which are not read: they could run anything"
        raise FileError(Problem("objects in an array", path, found, "write plain numbers"))
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > MOST_BYTES:
        found = f"an array of {' x '.join(map(str, shape))} is {size} bytes, more than {MOST_BYTES}"
        raise FileError(Problem("too large", path, found, "write it in parts"))
    content = file.read(size)
    if len(content) < size:
        found = f"has {len(content)} of the {size} bytes of an array"
        raise FileError(Problem("unreadable arrays", path, found, "write it anew"))
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
