"""Rows of an evaluation under way, kept so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_train.errors import InputError
from sam_train.files import write_json, written_whole

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ".rows-so-far"
_MINUTES = 1.0  # between two files
_SETTINGS = "settings.json"
_SEEN = b"seen"


class PartialRows:
    """A folder of rows that any number of processes write, each its own files.

    Args:
        folder: Of the report.
        settings: Plain values that the rows depend on.
        rank: Of this process.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rank: int = 0) -> None:
        self.folder = folder / FOLDER
        self.rank = rank
        self._settings = json.loads(json.dumps(settings))
        self._saved_at = time.monotonic()

    def require_own(self) -> None:
        """Refuse a folder with rows of another checkpoint, other data or other settings.

        Raises:
            InputError: If there are any; names what differs.
        """
        path = self.folder / _SETTINGS
        if not path.is_file():
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        for name in (*self._settings, *before):
            if before.get(name) != self._settings.get(name):
                raise InputError(
                    f"{self.folder} has rows of another evaluation, which was interrupted: its {name} was "
                    f"{before.get(name)}, is {self._settings.get(name)}. Give another folder (output=...), or remove "
                    "this one"
                )

    def read(self) -> tuple[list[pa.Table], dict[str, int]]:
        """Read what earlier processes have left: rows, and for each image seen how many objects were too small."""
        import pyarrow.parquet as pq

        tables = [pq.read_table(file) for file in sorted(self.folder.glob("[!.]*.parquet"))]
        seen = [json.loads((table.schema.metadata or {}).get(_SEEN, b"{}")) for table in tables]
        return tables, {image: count for some in seen for image, count in some.items()}

    def is_due(self) -> bool:
        """Tell whether it is time to write."""
        return time.monotonic() - self._saved_at > 60 * _MINUTES

    def write(self, rows: pa.Table, seen: Mapping[str, int]) -> None:
        """Keep the rows of some images, and for each of these images how many objects were too small."""
        import pyarrow.parquet as pq

        number = sum(1 for _ in self.folder.glob(f"{self.rank:04}-*.parquet"))
        if not (self.folder / _SETTINGS).exists():
            write_json(self.folder / _SETTINGS, self._settings)
        with written_whole(self.folder / f"{self.rank:04}-{number:06}.parquet") as file:
            pq.write_table(rows.replace_schema_metadata({_SEEN: json.dumps(dict(seen))}), file)
        self._saved_at = time.monotonic()

    def discard(self) -> None:
        """Remove the folder: the whole table is written, or its rows are of no use."""
        shutil.rmtree(self.folder, ignore_errors=True)
