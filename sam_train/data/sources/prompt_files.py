"""Boxes and points of many images in files: csv, json, or the results and annotations of COCO."""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sam_train.errors import FileError, InputError, Problem

Kind = Literal["boxes", "points"]

_BOX = ("x0", "y0", "x1", "y1")
_FORMS = {
    "boxes": (
        "a csv with the columns image, x0, y0, x1, y1 (and category, score); a json as {image: [[x0, y0, x1, y1], "
        "...]}; or COCO's results or annotations"
    ),
    "points": (
        "a csv with the columns image, x, y (and object, label, category); or a json as {image: [[x, y], ...]} with "
        'one object a point, or {image: [{"points": [[x, y], ...], "labels": [1, ...]}, ...]}'
    ),
}


@dataclass(frozen=True)
class GivenObject:
    """What was given of an object, in pixels of its image.

    Attributes:
        box: x0, y0, x1, y1; None where points were given.
        points: x, y of each.
        labels: Of each point, 1 on the object and 0 beside it.
        category: The object's name.
        score: How sure the one was who gave it.
    """

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    category: str | None = None
    score: float = 1.0

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 around all that was given."""
        if self.box is not None:
            return self.box
        x, y = zip(*self.points, strict=True)
        return min(x), min(y), max(x), max(y)


class PromptFile:
    """Prompts by image.

    Args:
        path: The file.
        kind: What it holds.
        names_from: The COCO file that has the names of the images and categories whose numbers are in it.

    Raises:
        InputError: If it is missing, damaged, empty, or a number in it is not finite.
    """

    def __init__(self, path: Path, kind: Kind, names_from: Path | None = None) -> None:
        self.path, self.kind = path, kind
        self.files = (path,) if names_from is None else (path, names_from)
        if not path.is_file():
            raise InputError(f"{kind}={path}: no such file; expected {_FORMS[kind]}")
        names = None if names_from is None else _Names.read(names_from)
        try:
            rows = _from_csv(path, kind) if path.suffix.lower() == ".csv" else _from_json(path, kind, names)
            self._by_name = {name: [check_given(one) for one in given] for name, given in rows.items()}
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            found = f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
            raise FileError(Problem(f"no {kind}", path, found, f"expected {_FORMS[kind]}")) from error
        if not any(self._by_name.values()):
            raise InputError(f"{kind}={path}: has no {kind}; expected {_FORMS[kind]}")

    def of(self, name: str) -> list[GivenObject]:
        """Return what was given for an image, by its path below the folder of images, with or without its suffix."""
        return next((self._by_name[key] for key in _keys(name) if key in self._by_name), [])

    def unknown(self, names: Collection[str]) -> list[str]:
        """Return the names in the file that are of none of these images, nor of slices of these volumes."""
        known = {key for name in names for key in _keys(name)}
        return [given for given in self._by_name if not {given, given.rpartition("/")[0]} & known]

    def has(self, name: str) -> bool:
        """Tell whether an image, or the frame of a video, is named exactly."""
        return name in self._by_name

    def require_known(self, names: Collection[str], number: int | None = None) -> None:
        """Refuse a file of which no image is among these.

        Args:
            names: Of the images.
            number: Of the images, where one has several names.

        Raises:
            InputError: If that is so.
        """
        if len(self.unknown(names)) == len(self._by_name):
            known = {key for name in names for key in _keys(name)}
            first = next(iter(self._by_name))
            near = difflib.get_close_matches(first, known, n=1) or sorted(known)[:1]
            there = near[0] if near else "none"
            hint = "; boxes_of= names the COCO file that such numbers are of" if first.isdigit() else ""
            raise InputError(
                f"{self.kind}={self.path}: is of none of the {number or len(names)} images; it names {first}, the "
                f"images are as {there}{hint}"
            )


def _keys(name: str) -> Iterator[str]:
    """Yield the names that an image may be given by, the most exact first."""
    path = Path(name)
    yield from (name, path.with_suffix("").as_posix(), path.name, path.stem)
    if path.stem.isdigit():
        yield str(int(path.stem))  # the id that COCO's own images are named by


def check_given(given: GivenObject) -> GivenObject:
    """Return what was given, if its numbers make sense.

    Raises:
        InputError: If they do not.
    """
    numbers = [*(given.box or ()), *(number for point in given.points for number in point), given.score]
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"a number is not finite: {numbers}")
    if given.box is not None and (given.box[0] > given.box[2] or given.box[1] > given.box[3]):
        raise InputError(f"a box ends before it begins: {list(given.box)}; expected x0, y0, x1, y1")
    if given.box is None and (not given.points or len(given.labels) != len(given.points)):
        raise InputError(f"{len(given.labels)} labels for {len(given.points)} points")
    if others := set(given.labels) - {0, 1}:
        raise InputError(f"a label is {others.pop()}; expected 1 on the object or 0 beside it")
    return given


def _from_csv(path: Path, kind: Kind) -> dict[str, list[GivenObject]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    needed = ("image", *_BOX) if kind == "boxes" else ("image", "x", "y")
    if rows and (missing := [name for name in needed if name not in rows[0]]):
        raise InputError(f"has no column {missing[0]}, but {', '.join(rows[0])}")
    found: dict[str, list[GivenObject]] = {}
    clicks: dict[tuple[str, str], list[dict[str, str]]] = {}
    for number, row in enumerate(rows):
        if kind == "boxes":
            x0, y0, x1, y1 = (float(row[name]) for name in _BOX)
            score = float(row.get("score") or 1)
            given = GivenObject((x0, y0, x1, y1), category=row.get("category") or None, score=score)
            found.setdefault(row["image"], []).append(given)
        else:
            clicks.setdefault((row["image"], row.get("object") or f"row {number}"), []).append(row)
    for (image, _), of_object in clicks.items():
        points = tuple((float(row["x"]), float(row["y"])) for row in of_object)
        labels = tuple(int(row.get("label") or 1) for row in of_object)
        given = GivenObject(points=points, labels=labels, category=of_object[0].get("category") or None)
        found.setdefault(image, []).append(given)
    return found


@dataclass(frozen=True)
class _Names:
    """What a COCO file calls its images and categories, by their numbers."""

    images: Mapping[Any, str]
    categories: Mapping[Any, str]

    @classmethod
    def read(cls, path: Path) -> _Names:
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            expected = "expected a COCO file with images and categories"
            raise FileError(Problem("no names", path, f"{type(error).__name__}: {error}", expected)) from error

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> _Names:
        return cls(
            {image["id"]: image["file_name"] for image in content.get("images", ())},
            {category["id"]: category["name"] for category in content.get("categories", ())},
        )


def _from_json(path: Path, kind: Kind, names: _Names | None) -> dict[str, list[GivenObject]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if kind == "boxes" and isinstance(content, list):
        return _from_coco(content, names or _Names({}, {}))
    if not isinstance(content, Mapping):
        raise InputError(f"a {type(content).__name__}")
    if kind == "boxes" and "annotations" in content:
        return _from_coco(content["annotations"], names or _Names.of(content))
    read = _box if kind == "boxes" else _clicks
    return {str(name): [read(one) for one in given] for name, given in content.items()}


def _from_coco(annotations: Sequence[Mapping[str, Any]], names: _Names) -> dict[str, list[GivenObject]]:
    found: dict[str, list[GivenObject]] = {}
    for annotation in annotations:
        x, y, width, height = (float(number) for number in annotation["bbox"])
        image, category = annotation["image_id"], annotation.get("category_id")
        name = names.categories.get(category, None if category is None else str(category))
        given = GivenObject((x, y, x + width, y + height), category=name, score=float(annotation.get("score", 1)))
        found.setdefault(str(names.images.get(image, image)), []).append(given)
    return found


def _box(given: Any) -> GivenObject:
    box, rest = (given["box"], given) if isinstance(given, Mapping) else (given, {})
    x0, y0, x1, y1 = (float(number) for number in box)
    return GivenObject((x0, y0, x1, y1), category=_name(rest), score=float(rest.get("score", 1)))


def _clicks(given: Any) -> GivenObject:
    points, rest = (given["points"], given) if isinstance(given, Mapping) else ([given], {})
    places = tuple((float(x), float(y)) for x, y in points)
    labels = tuple(int(label) for label in rest.get("labels", [1] * len(places)))
    return GivenObject(points=places, labels=labels, category=_name(rest))


def _name(given: Mapping[str, Any]) -> str | None:
    name = given.get("category")
    return None if name is None else str(name)
