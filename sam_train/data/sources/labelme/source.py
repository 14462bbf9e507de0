"""A folder of LabelMe files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.groups import match_groups
from sam_train.data.sources.labelme.images import LabelMeImages
from sam_train.data.sources.other_kinds import is_labelme
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.safe_walk import walk_files
from sam_train.data.sources.splits import SPLITS, assign_splits, complete_splits, require_whole_groups
from sam_train.errors import InputError

_WORDS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class LabelMeSource(PixelSource):
    """LabelMe's JSON files: polygons, rectangles, circles and masks; shapes of one ``group_id`` are one object.

    The image is the file that ``imagePath`` names or, where it is not there, the one in ``imageData``.

    Attributes:
        root: The folder that holds all files; nothing outside it is read, except through ``links``.
        categories: Labels whose objects count; None for all.
        links: Whether links may lead out of ``root``.
        split: Shares of train, val and test, unless folders of these names hold all files.
        split_seed: Another seed gives another split by shares.
        group_pattern: Regular expression, searched in the file's path below ``root``, that names the patient, slide or
            video that must not be in two splits.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all files are read and checked before training.
    """

    root: str
    categories: Sequence[str] | None = None
    links: bool = False
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    group_pattern: str | None = None
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have images; files are listed, and their kind is looked at.

        Raises:
            InputError: If there is no LabelMe file, or settings do not fit each other.
        """
        if isinstance(self.categories, str):
            raise InputError(f"data.categories={self.categories}: expected names in brackets, as [{self.categories}]")
        root = Path(str(self.root)).expanduser().absolute()
        if not root.is_dir():
            raise InputError(f"data.root={root}: no such folder; it should hold LabelMe's JSON files")
        names = [name for name in walk_files(root, self.links) if name.lower().endswith(".json")]
        ids = [name[: -len(".json")] for name in names if is_labelme(root / name) or not (root / name).stat().st_size]
        if not ids:
            raise InputError(f"{root}: none of its {len(names)} JSON files is LabelMe's (with shapes and imagePath)")
        groups = match_groups(self.group_pattern, ids) if self.group_pattern else ids
        folders: list[Split | None] = [_WORDS.get(name.partition("/")[0].lower()) for name in ids]
        if all(folders):
            require_whole_groups(ids, groups, folders)
            assigned = folders
        else:
            assigned = assign_splits(groups, self.split, self.split_seed)
        images = LabelMeImages(ids, groups, root, self.categories, self.links, self.tones())
        splits: dict[Split, ImageSet] = {}
        for split in SPLITS:
            if rows := [row for row, found in enumerate(assigned) if found == split]:
                own = [ids[row] for row in rows], [groups[row] for row in rows]
                splits[split] = replace(images, ids=tuple(own[0]), groups=tuple(own[1]))
        return complete_splits(splits, str(root))
