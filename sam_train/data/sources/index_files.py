"""Tables and lists of names beside the images."""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from sam_train.data.sources.base import Split
from sam_train.data.sources.decoding import SUFFIXES
from sam_train.data.sources.pairing import Pair
from sam_train.data.sources.splits import SPLITS
from sam_train.errors import InputError

TABLE = "index.csv"
KEY_COLUMNS = ("file", "image", "name", "id", "stem")
"""Possible names of the column that names the image."""


def has_lists(root: Path) -> bool:
    """Tell whether ``train.txt``, ``val.txt`` or ``test.txt`` exists in a folder."""
    return any((root / f"{split}.txt").is_file() for split in SPLITS)


def read_lists(root: Path, pairs: Sequence[Pair], images: str) -> list[Split | None]:
    """Return, per image, the split whose list names it; None for images in no list.

    Lists are ``train.txt``, ``val.txt`` and ``test.txt``, one image a line: its name below the images folder, with or
    without suffix.

    Raises:
        InputError: If a line names no image, or an image is listed twice.
    """
    assigned: dict[str, Split] = {}
    known = {pair.stem for pair in pairs}
    for split in SPLITS:
        path = root / f"{split}.txt"
        for number, line in enumerate(_text(path).splitlines() if path.is_file() else (), start=1):
            if not line.strip():
                continue
            where, stem = f"{path}, line {number}", _stem(line, images)
            if PurePosixPath(stem).is_absolute() or ".." in PurePosixPath(stem).parts:
                raise InputError(f"{where}: {line.strip()} leads out of the images folder; name an image inside it")
            if stem not in known:
                near = difflib.get_close_matches(stem, known, n=1)
                raise InputError(f"{where}: no image {stem!r}; {f'nearest: {near[0]}' if near else 'correct the list'}")
            if stem in assigned:
                raise InputError(f"{where}: {stem} is already in {assigned[stem]}.txt; list each image once")
            assigned[stem] = split
    return [assigned.get(pair.stem) for pair in pairs]


def read_column(root: Path, column: str, pairs: Sequence[Pair], images: str) -> list[str]:
    """Return the value of each image in a column of ``root/index.csv``.

    Images are named, by id or stem, with or without suffix, in the first of the columns :data:`KEY_COLUMNS` that names
    every image. An image may have several rows if they agree.

    Raises:
        InputError: If the table or the column is missing, or an image has no row, an empty cell or contradicting rows.
    """
    path = root / TABLE
    header, rows = _table(path)
    if column not in header:
        near = difflib.get_close_matches(column, header, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{path}: no column {column!r}; {hint}columns there: {', '.join(header)}")
    keys = sorted((name for name in header if name.lower() in KEY_COLUMNS), key=lambda k: KEY_COLUMNS.index(k.lower()))
    if not keys:
        raise InputError(f"{path}: no column names the image; call it {' or '.join(KEY_COLUMNS)}, not {header}")
    unknown: list[str] = []
    for key in keys:
        values = _values(rows, key, column, images, path)
        cells = [values.get(pair.id, values.get(pair.stem)) for pair in pairs]
        unknown = [pair.id for pair, cell in zip(pairs, cells, strict=True) if not cell]
        if not unknown:
            return [cell for cell in cells if cell]
    some = ", ".join(unknown[:3])
    raise InputError(f"{path}: {len(unknown)} image(s) without a value for {column!r}, such as {some}; add their rows")


def read_split_column(root: Path, column: str, pairs: Sequence[Pair], images: str) -> list[Split]:
    """Return the split of each image from a column of ``root/index.csv``.

    Raises:
        InputError: As :func:`read_column`, or if a cell is not the name of a split.
    """
    cells = read_column(root, column, pairs, images)
    by_name: Mapping[str, Split] = {split: split for split in SPLITS}
    if others := sorted(set(cells).difference(by_name)):
        expected = ", ".join(SPLITS)
        raise InputError(f"{root / TABLE}: column {column!r} holds {', '.join(others[:5])}; expected only {expected}")
    return [by_name[cell] for cell in cells]


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    lines = _text(path).splitlines(keepends=True)
    if not lines:
        raise InputError(f"{path}: empty; expected a header and one row an image")
    delimiter = max(",;\t", key=lines[0].count)
    header, *rows = ([cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter) if row)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}: row {number} has {len(row)} cells; expected {len(header)} as in the header")
    return header, [dict(zip(header, row, strict=True)) for row in rows]


def _values(rows: list[dict[str, str]], key: str, column: str, images: str, path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for row in rows:
        stem = _stem(row[key], images)
        if values.setdefault(stem, row[column]) != row[column]:
            raise InputError(
                f"{path}: {stem} has {column} {values[stem]!r} in one row and {row[column]!r} in another; "
                "keep the right one"
            )
    return values


def _stem(name: str, images: str) -> str:
    name = unicodedata.normalize("NFC", name.strip()).replace("\\", "/").removeprefix("./").removeprefix(f"{images}/")
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else name


def _text(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a table with one row an image")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
