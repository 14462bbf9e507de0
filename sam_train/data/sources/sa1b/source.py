"""Images with their masks in JSON beside them: SA-1B's tars, or folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

import numpy as np

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.groups import match_groups
from sam_train.data.sources.packed_texts import MadeTexts, PackedTexts
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.sa1b.images import Sa1bImages
from sam_train.data.sources.sa1b.records import FileRecords, Records, TarRecords
from sam_train.data.sources.safe_walk import walk_files
from sam_train.data.sources.splits import SPLITS, assign_splits, complete_splits, require_whole_groups
from sam_train.errors import FileError, InputError

_FRACTIONS = (0.7, 0.15, 0.15)
_WORDS: dict[str, Split] = {
    **{split: split for split in get_args(Split)},
    **dict.fromkeys(("valid", "validation", "dev"), "val"),
    "training": "train",
}


@dataclass(frozen=True)
class Sa1bSource(PixelSource):
    """Tars, or folders, of images and of a JSON file beside each that holds its masks.

    JSON is as in SA-1B: ``image`` with ``height`` and ``width``, and ``annotations``, each with a ``segmentation`` (run
    lengths, compressed or not, or polygons), perhaps ``area``, ``category`` (its name), ``iscrowd``, ``bbox`` and
    ``point_coords``.

    Attributes:
        root: A folder of tars, or of images and JSON; or one tar. Nothing outside it is read.
        split: Shares of train, val and test, where names of tars or folders do not say them (``val-000.tar``).
        split_seed: Another seed gives another split by shares.
        group_pattern: Regular expression, searched in the image's name: its tar and its path there, without suffix. Its
            first group, or else the whole match, names the patient, slide or video that must not be in two splits.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all files are read and checked before training.
    """

    root: str
    split: Sequence[float] = _FRACTIONS
    split_seed: int = 0
    group_pattern: str | None = None
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have images. Headers of tars are read, unless an earlier run has.

        Raises:
            InputError: If settings and files do not fit each other.
        """
        tones = self.tones()
        root = Path(str(self.root)).expanduser().absolute()
        records = _open(root)
        if records.problems and self.is_strict:
            raise FileError(records.problems[0])
        if not len(records.ids):
            first = f": {records.problems[0]}" if records.problems else ""
            raise InputError(f"{root}: no image with a JSON file of its name{first}")
        groups = PackedTexts(match_groups(self.group_pattern, records.ids)) if self.group_pattern else ()
        assigned = self._assigned(root, records, groups or records.ids)
        splits: dict[Split, ImageSet] = {}
        for number, split in enumerate(SPLITS):
            if len(rows := (assigned == number).nonzero()[0]):
                loose_ends = () if splits else records.problems
                of_rows = PackedTexts(groups[int(row)] for row in rows) if groups else ()
                splits[split] = Sa1bImages(_Chosen(records.ids, rows), records, rows, of_rows, loose_ends, tones)
        return complete_splits(splits, str(root))

    def _assigned(self, root: Path, records: Records, groups: Sequence[str]) -> np.ndarray:
        """Return the number of each record's split."""
        if isinstance(records, TarRecords):
            said = [_said(name) for name in records.names]
            found: list[Split | None] = [said[shard] for shard in records.shard] if any(said) else []
        else:
            found = [_said(name) for name in records.ids]
        if not any(found):
            return np.array([SPLITS.index(split) for split in assign_splits(groups, self.split, self.split_seed)])
        if tuple(self.split) != _FRACTIONS:
            raise InputError(f"{root}: names of its tars or folders and data.split both say how to split; leave one")
        if None in found:
            raise InputError(
                f"{root}: the name of {records.ids[found.index(None)]} says no split, those of others do; call all "
                "train-..., val-..., test-..., or none"
            )
        if self.group_pattern:
            require_whole_groups(records.ids, groups, found)
        return np.array([SPLITS.index(split) for split in found if split])


def _open(root: Path) -> Records:
    if root.is_file():
        return TarRecords(root.parent, [root.name])
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; it should hold tars, or images with JSON beside them")
    names = list(walk_files(root))
    tars = [name for name in names if name.endswith(".tar")]
    return TarRecords(root, tars) if tars else FileRecords(root, names)


def _said(name: str) -> Split | None:
    """Return the split that the name of a tar or a folder says."""
    *folders, file = PurePosixPath(name).parts
    words = [*folders, *(re.split(r"[-_.]", file)[:1] if name.endswith(".tar") else ())]
    return next((_WORDS[word.lower()] for word in words if word.lower() in _WORDS), None)


class _Chosen(MadeTexts):
    """Some names of many."""

    def __init__(self, names: Sequence[str], rows: np.ndarray) -> None:
        self.names = names
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def made(self, position: int) -> str:
        """See :meth:`MadeTexts.made`."""
        return self.names[int(self.rows[position])]
