"""Files that are there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

Write = Callable[[Path], object]
"""Writes one file at the path it is given."""


def write_json(content: Mapping[str, object]) -> Write:
    """A JSON file with this content."""
    return lambda file: file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_files(folder: Path, files: Mapping[str, Write]) -> None:
    """Files into a folder, each renamed to its name once all of them are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        plain = Path(unfinished, ".plain")
        plain.touch()
        for name, write in files.items():
            write(Path(unfinished, name))
            Path(unfinished, name).chmod(plain.stat().st_mode)  # safetensors writes for the owner's eyes only
        for name in files:
            Path(unfinished, name).replace(folder / name)
