"""Recognizes data of other kinds than folders of images, so that a message can name them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

_MOST_FILES = 2000  # looked at: enough to recognize a folder of any size
_HEAD = 1 << 16  # bytes of a JSON file that are looked at, at its beginning and at its end


@dataclass(frozen=True)
class Kind:
    """A kind of data that is not a folder of images.

    Attributes:
        name: What people call it.
        source: The value of ``data=`` that reads it; None while there is none.
        instead: What to save as image files meanwhile.
        suffixes: Of its files.
        magic: Bytes that its files have whatever their suffix, and where.
        words: What its JSON files hold: of each group one.
    """

    name: str
    source: str | None = None
    instead: str = "slices and their masks"
    suffixes: tuple[str, ...] = ()
    magic: tuple[int, bytes] | None = None
    words: tuple[tuple[bytes, ...], ...] = ()


_COCO = ((b'"images"',), (b'"annotations"', b'"categories"', b'"image_id"'))
_SA1B = ((b'"image"',), (b'"annotations"',), (b'"segmentation"',))
_LABELME = ((b'"shapes"',), (b'"imagePath"',))
_DICOM = (128, b"DICM")
KINDS = (
    Kind("COCO annotations", source="coco", suffixes=(".json",), words=_COCO),
    Kind("images with masks in JSON", source="sa1b", suffixes=(".json",), words=_SA1B),
    Kind("tars", source="sa1b", suffixes=(".tar",)),
    Kind("LabelMe annotations", source="labelme", suffixes=(".json",), words=_LABELME),
    Kind("a volume", source="volume", suffixes=(".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")),
    Kind("DICOM", source="volume", suffixes=(".dcm",), magic=_DICOM),
    Kind("a video", instead="frames and their masks", suffixes=(".mp4", ".avi", ".mov", ".mkv", ".webm")),
    Kind("a table of images", source="hf", suffixes=(".parquet", ".arrow")),
)
"""A source that reads one of these is named in its row."""


def other_kinds(root: Path) -> str:
    """Return lines for a message that name other kinds of data below a folder and what to do; or an empty text."""
    found: dict[Kind, list[Path]] = defaultdict(list)
    for path in islice(_walk(root), _MOST_FILES):
        if kind := next((kind for kind in KINDS if _is_of(path, kind)), None):
            found[kind].append(path)
    lines = []
    for kind, paths in found.items():
        files = f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"
        unread = f"data=folder does not read that; save {kind.instead} as image files"
        remedy = f"data={kind.source} reads that" if kind.source else unread
        lines.append(f"\n{files}: this is {kind.name}, and {remedy}")
    return "".join(lines)


def is_coco(path: Path) -> bool:
    """Tell whether a JSON file is like COCO's, by its beginning and end."""
    return path.is_file() and _says(path, _COCO)


def is_sa1b(path: Path) -> bool:
    """Tell whether a JSON file holds the masks of one image, by its beginning and end."""
    return path.is_file() and _says(path, _SA1B) and not _says(path, _COCO)


def is_labelme(path: Path) -> bool:
    """Tell whether a JSON file is like LabelMe's, by its beginning and end."""
    return path.is_file() and _says(path, _LABELME)


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, by its first bytes."""
    return path.is_file() and _holds(path, *_DICOM)


def _walk(root: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _is_of(path: Path, kind: Kind) -> bool:
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    if path.name.lower().endswith(kind.suffixes):
        return not kind.words or _says(path, kind.words)
    return kind.magic is not None and _holds(path, *kind.magic)


def _says(path: Path, words: tuple[tuple[bytes, ...], ...]) -> bool:
    """Tell whether a file has one word of each group at its beginning or its end."""
    try:
        with path.open("rb") as file:
            ends = file.read(_HEAD)
            file.seek(max(file.seek(0, os.SEEK_END) - _HEAD, 0))
            ends += file.read(_HEAD)
    except OSError:
        return False
    return all(any(word in ends for word in group) for group in words)


def _holds(path: Path, offset: int, content: bytes) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(len(content)) == content
    except OSError:
        return False
