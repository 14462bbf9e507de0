"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; at the end the new file takes the place of what was at ``path``.

    If writing fails, what was there stays and nothing else is left. The name has the suffix of ``path``; the file gets
    the permissions of any new file, whatever library wrote it. Folders are made as needed.

    Args:
        path: Of the file.
        durable: Wait until the file is on the disk, so that it outlives a loss of power.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{uuid.uuid4().hex}-{path.name[-64:]}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")
