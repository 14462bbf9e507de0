"""The folder for labels: looked at before anything heavy is imported, so that the first mistake is told at once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sam_train.errors import InputError

MARK = "sam-app.json"
"""Says what images a folder of labels is of."""


def require_own_folder(folder: Path, opened: str) -> None:
    """Refuse a folder that cannot be written, or that holds anything but labels of these images.

    Args:
        folder: Which need not exist.
        opened: What the images are.

    Raises:
        InputError: If it is one of these.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output={folder}: a file; name a folder")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(
            f"output={folder}: cannot be written ({error.strerror}); name another folder: output=..."
        ) from error
    mark = folder / MARK
    if mark.is_file():
        try:
            earlier = json.loads(mark.read_text(encoding="utf-8"))["opened"]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{mark}: sam-app did not write that; delete it if these are labels of {opened}"
            ) from error
        if earlier != opened:
            raise InputError(
                f"output={folder}: holds labels of {earlier}, not of {opened}; name another folder, or, if these are "
                f"the same images at another place, delete {mark}"
            )
        return
    left = [one for one in ("images", "masks") if (folder / one).exists()]
    if left and not (folder / "objects").is_dir():
        raise InputError(
            f"output={folder}: holds {' and '.join(left)} that sam-app did not make; name another folder, and open "
            f"these with data=folder data.root={folder}"
        )
