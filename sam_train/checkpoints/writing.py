"""Several files of one checkpoint, written together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from sam_train.files import written_whole

Write = Callable[[Path], object]
"""Writes one file at the path it is given."""


def json_writer(content: Mapping[str, object]) -> Write:
    """Return a function that writes this content as a JSON file."""
    return lambda file: file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_files(folder: Path, files: Mapping[str, Write]) -> None:
    """Write files into a folder; each takes its name once all of them are whole."""
    with ExitStack() as stack:
        unfinished = {name: stack.enter_context(written_whole(folder / name)) for name in files}
        for name, write in files.items():
            write(unfinished[name])
