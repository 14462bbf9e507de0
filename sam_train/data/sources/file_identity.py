"""How a file is recognized: by what its copies share, and by what changes with it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sam_train.errors import FileError, Problem

# Parts of a file by which its copies are recognized: the ends alone of uncompressed images may be all black.
_PARTS, _BYTES_OF_A_PART = 16, 1 << 14


def file_fingerprint(path: Path) -> str:
    """Return a file's place, size and time of change.

    Raises:
        FileError: If it is not there.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def file_identity(path: Path) -> str:
    """Return a file's size and a hash of its contents, of a large one of its ends and parts between.

    Raises:
        FileError: If it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            step = max(size // _PARTS, _BYTES_OF_A_PART)
            for start in (*range(0, size, step), max(size - _BYTES_OF_A_PART, 0)):
                file.seek(start)
                digest.update(file.read(_BYTES_OF_A_PART))
    except OSError as error:
        raise _unreadable(path, error) from error
    return f"{size} {digest.hexdigest()}"


def file_content(path: Path) -> bytes:
    """Return all bytes of a file.

    Raises:
        FileError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(Problem("unreadable image", path, str(error.strerror), "put it back"))
