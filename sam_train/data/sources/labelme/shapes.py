"""The shapes of a LabelMe file and the masks they stand for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from sam_train.data.sources.coco.outlines import OutlineError
from sam_train.data.sources.coco.reading import pack_outlines
from sam_train.data.sources.mask_files import read_numbers
from sam_train.errors import FileError, Problem

_AREAS = ("polygon", "rectangle", "rotation", "circle", "mask")
_NO_AREAS = ("point", "points", "line", "linestrip")


@dataclass(frozen=True)
class Shapes:
    """Shapes that are one object: those of a ``group_id`` and label, or one alone.

    Attributes:
        label: What it is.
        shapes: Its records.
    """

    label: str
    shapes: tuple[Mapping[str, Any], ...]


def objects_of(content: Mapping[str, Any], only: Sequence[str] | None, path: Path) -> list[Shapes]:
    """Return the objects of a file, in its order; points and lines are none.

    Args:
        content: Of the file.
        only: Labels that count; None for all.
        path: The file, for messages.

    Raises:
        FileError: If a shape has no label, or is of a kind that is not known.
    """
    found: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for number, shape in enumerate(_records(content, path)):
        kind, label = shape.get("shape_type") or "polygon", shape.get("label")
        if not isinstance(label, str) or not label:
            raise FileError(Problem("shape without label", path, f"shape {number} has no label", "name it"))
        if kind not in (*_AREAS, *_NO_AREAS):
            what = f"shape {number} ({label}) is a {kind}"
            raise FileError(Problem("unknown shape", path, what, f"draw it as one of {', '.join(_AREAS)}"))
        if kind in _AREAS and (only is None or label in only):
            group = shape.get("group_id")
            found.setdefault((label, ("alone", number) if group is None else group), []).append(shape)
    return [Shapes(label, tuple(shapes)) for (label, _), shapes in found.items()]


def _records(content: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    shapes = content.get("shapes")
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise FileError(Problem("no LabelMe file", path, "has no list of shapes", "save it anew with LabelMe"))
    yield from shapes


def mask_of(one: Shapes, size: tuple[int, int], path: Path) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of an object in an image of this height and width.

    Raises:
        FileError: If a shape makes no sense.
    """
    mask = np.zeros(size, bool)
    for shape in one.shapes:
        try:
            mask |= _area(shape, size, path)
        except OutlineError as error:
            found = f"{one.label}: {error.found}"
            raise FileError(Problem(error.kind, path, found, error.remedy)) from error
    return mask


def _area(shape: Mapping[str, Any], size: tuple[int, int], path: Path) -> Bool[np.ndarray, "h w"]:
    kind = shape.get("shape_type") or "polygon"
    try:
        points = np.array(shape["points"], np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        found = f"its points are no pairs of numbers ({error})"
        raise OutlineError("shape without points", found, "draw it anew") from error
    if kind in ("rectangle", "circle", "mask") and (len(points) != 2 or not np.isfinite(points).all()):
        found = f"a {kind} of {len(points)} points, where it has two"
        raise OutlineError("shape without points", found, "draw it anew")
    if kind == "circle":
        return _disc(points[0], points[1], size)
    if kind == "mask":
        return _pasted(shape.get("mask"), points, size, path)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return pack_outlines([[points.ravel().tolist()]], path).mask(0, size)


def _disc(center: np.ndarray, edge: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose middle is in a circle through ``edge``."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return np.hypot(columns + 0.5 - center[0], rows + 0.5 - center[1]) <= np.hypot(*(edge - center))


def _pasted(text: Any, points: np.ndarray, size: tuple[int, int], path: Path) -> Bool[np.ndarray, "h w"]:
    """Return a mask that the file holds as a PNG image of the box around it, its last pixels in the second point."""
    content = decoded(text)
    if content is None:
        raise OutlineError("damaged mask", "its mask is no image in base64", "draw it anew")
    part = read_numbers(path, is_region=True, content=content).pixels > 0
    left, top = points.min(axis=0).round().astype(int).tolist()
    height, width = part.shape
    if left < 0 or top < 0 or top + height > size[0] or left + width > size[1]:
        found = f"a mask of {height} x {width} at row {top}, column {left}, in an image of {size[0]} x {size[1]}"
        raise OutlineError("mask of another image", found, "draw it anew")
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = part
    return mask


def decoded(text: Any) -> bytes | None:
    """Return the bytes of a base64 text; None if it is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
