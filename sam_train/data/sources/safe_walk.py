"""The files below a folder, without those that lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sam_train.errors import InputError


def walk_files(root: Path, links: bool = False) -> Iterator[str]:
    """Yield the names of all files below a folder, with ``/``, in order; hidden ones are skipped.

    Args:
        root: The folder.
        links: Whether files that are links may lead out of it; otherwise they are skipped. Linked folders always are.
    """
    real = Path(os.path.realpath(root))
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{root / folder}: cannot be listed ({error.strerror})") from error
        for entry in entries:
            name = f"{folder}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{name}/")
            elif entry.is_file() and (links or not entry.is_symlink() or _is_inside(root / name, real)):
                yield name


def inside(root: Path, name: str, setting: str) -> Path:
    """Return a path below a folder.

    Raises:
        InputError: If the name leads out of it, by itself or through a link.
    """
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or ".." in path.parts
    if leads_out or not _is_inside(root / name, Path(os.path.realpath(root))):
        raise InputError(f"{setting}={name}: leads out of data.root={root}; name something inside it")
    return root / name


def is_inside(path: Path, root: Path) -> bool:
    """Tell whether a path is below a folder, wherever links lead."""
    return _is_inside(path, Path(os.path.realpath(root)))


def _is_inside(path: Path, real_root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(real_root)
