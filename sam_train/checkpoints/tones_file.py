"""What an exported model says of the images it was tuned on: how their stored numbers became 8 bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_train.errors import FileError, Problem
from sam_train.files import write_json

KEYS = ("channels", "window", "percentiles")
_NAME = "sam_train_images.json"


def write_tones(path: Path, data: Mapping[str, Any]) -> Path | None:
    """Write the rule of a run's data beside its exported weights; return the file, or None where nothing is to be said.

    Args:
        path: Folder or file of the weights.
        data: The settings of the run's data.
    """
    values = {key: data.get(key) for key in KEYS}
    if not any(values.values()):
        return None
    file = tones_file(path)
    write_json(file, values)
    return file


def read_tones(path: Path) -> dict[str, Any] | None:
    """Read the rule beside weights; None where there is none.

    Raises:
        FileError: If the file is damaged.
    """
    file = tones_file(path)
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {key: content.get(key) for key in KEYS}
    except (ValueError, AttributeError) as error:
        raise FileError(Problem("damaged JSON", file, str(error), "export the model anew")) from error


def tones_file(path: Path) -> Path:
    """Return where the rule lies: in a folder of weights, or beside their file."""
    return path / _NAME if path.is_dir() else path.with_name(f"{path.name}.{_NAME}")
