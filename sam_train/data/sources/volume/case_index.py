"""What is known of volumes from an earlier start, on disk: which slices have labels, and that nothing is wrong.

To know it, every label volume must be decoded, and every volume for the check. A volume is recognized by the paths,
sizes and times of change of its files and by the settings that the answer depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_train.data.sources.file_identity import file_fingerprint
from sam_train.data.sources.volume.cases import Case
from sam_train.errors import FileError
from sam_train.files import write_text

_VERSION = 1  # of what is written; another one makes everything new


@dataclass(frozen=True)
class CaseIndex:
    """A file for each volume in a folder.

    Attributes:
        folder: Where they are; None to keep nothing.
        settings: What the answers depend on, beside the files.
    """

    folder: Path | None = None
    settings: str = ""

    def read(self, case: Case) -> Mapping[str, Any]:
        """Return what is known of a volume; nothing where it is not known, or not readable."""
        path = self._path(case)
        if path is None or not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def add(self, case: Case, known: Mapping[str, Any]) -> None:
        """Keep more of what is known of a volume; nothing where the folder cannot be written."""
        path = self._path(case)
        if path is None:
            return
        try:
            write_text(path, json.dumps({**self.read(case), **known}))
        except OSError:  # such as a disk that is full or read-only: the next start takes longer
            return

    def _path(self, case: Case) -> Path | None:
        if self.folder is None or case.problem:
            return None
        try:
            files = [file_fingerprint(path) for path in (*case.image, *case.labels)]
        except FileError:
            return None
        text = json.dumps([_VERSION, self.settings, case.id, files])
        return self.folder / f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.json"
