"""Finds COCO files and what each is for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sam_train.data.sources.base import Split
from sam_train.data.sources.other_kinds import is_coco
from sam_train.errors import InputError

_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def find_annotations(root: Path, files: Iterable[str]) -> dict[Split | None, str]:
    """Return the COCO files below a root: one of each split, or one alone, which is for no split.

    Raises:
        InputError: If there are none, or several of which it is not clear what they are for.
    """
    found = [file for file in files if file.lower().endswith(".json") and is_coco(root / file)]
    if not found:
        raise InputError(f"{root}: no COCO file below it (a .json with images and annotations)")
    if len(found) == 1:
        return {None: found[0]}
    by_split: dict[Split | None, list[str]] = defaultdict(list)
    for file in found:
        by_split[_split_of(file)].append(file)
    for split, several in by_split.items():  # COCO's own folder has the same images with keypoints, too
        if len(instances := [file for file in several if "instances" in PurePosixPath(file).name]) == 1:
            by_split[split] = instances
    if None in by_split or any(len(several) > 1 for several in by_split.values()):
        raise InputError(
            f"{root}: {len(found)} COCO files ({', '.join(found[:5])}), and their names do not say which is for what; "
            "name one to be split by shares (data.annotations=...), or one for each split "
            "(data.train=... data.val=... data.test=...)"
        )
    return {split: several[0] for split, several in by_split.items()}


def _split_of(file: str) -> Split | None:
    """Return the split that a file's name says, or else the nearest folder's."""
    for part in reversed(PurePosixPath(file).with_suffix("").parts):
        words = re.findall(r"[a-z]+", part.lower())
        splits: set[Split] = {_WORDS[word] for word in words if word in _WORDS}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None
