"""Masks whose colors are classes: a table says which color is what."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from sam_train.errors import FileError, InputError, Problem

_FORMS = 'a csv with the columns name, r, g, b, or a json as {"road": [128, 64, 128], ...}'


@dataclass(frozen=True)
class ColorTable:
    """Colors by name; the first name is number 1. Black is background, unless the table names it.

    Attributes:
        names: Of the classes.
        colors: Red, green and blue of each.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def number(self, name: str | int) -> int:
        """Return the number of a name; of black 0.

        Raises:
            InputError: If there is none.
        """
        if isinstance(name, int):
            return name
        if name not in self.names:
            raise InputError(f"data.colors has no {name!r}, but {', '.join(self.names)}")
        return self.names.index(name) + 1

    def numbers(self, pixels: UInt8[np.ndarray, "h w 3"], path: Path) -> Int[np.ndarray, "h w"]:
        """Return the number of each pixel's color.

        Raises:
            FileError: If a color is not in the table.
        """
        codes = _codes(pixels)
        known = np.array([0, *_codes(np.array(self.colors, np.uint8))])
        order = known.argsort(kind="stable")
        places = order[np.searchsorted(known[order], codes, side="right") - 1]  # of two blacks the table's
        if (wrong := known[places] != codes).any():
            color = pixels[wrong][0].tolist()
            found = f"{int(wrong.sum())} pixels have colors that the table has not, such as {color}"
            remedy = "add the color to the table, or save the mask without smoothing"
            raise FileError(Problem("unknown color", path, found, remedy))
        return places.astype(np.int32)


def read_colors(path: Path) -> ColorTable:
    """Read a table of colors.

    Raises:
        FileError: If it is missing or no such table.
    """
    try:
        rows = list(_from_csv(path) if path.suffix.lower() == ".csv" else _from_json(path))
        colors = tuple((int(red), int(green), int(blue)) for _, (red, green, blue) in rows)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(Problem("no table of colors", path, repr(error), f"expected {_FORMS}")) from error
    names = tuple(name for name, _ in rows)
    twice = [one for one in (*names, *colors) if (*names, *colors).count(one) > 1]
    beyond = [color for color in colors if not all(0 <= part <= 255 for part in color)]
    if twice or beyond or not rows:
        found = f"{twice[0]} twice" if twice else f"{beyond[0]} is no color" if beyond else "no color"
        raise FileError(Problem("no table of colors", path, found, f"expected {_FORMS}, each name and color once"))
    return ColorTable(names, colors)


def _from_csv(path: Path) -> Iterable[tuple[str, Sequence[Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            cells = {str(key).strip().lower(): str(value).strip() for key, value in row.items()}
            yield cells["name"], [cells[key] for key in ("r", "g", "b")]


def _from_json(path: Path) -> Iterable[tuple[str, Sequence[Any]]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        return [(str(one["name"]), one["color"]) for one in content]
    return [(str(name), color) for name, color in content.items()]


def _codes(colors: UInt8[np.ndarray, "*shape 3"]) -> Int[np.ndarray, "*shape"]:
    """Return one number for each color."""
    return (colors.astype(np.int32) << np.array([16, 8, 0])).sum(axis=-1, dtype=np.int32)
