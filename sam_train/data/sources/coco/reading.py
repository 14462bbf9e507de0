"""Reads a COCO file into arrays."""

from __future__ import annotations

import difflib
import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sam_train.data.sources.coco.index import CocoIndex
from sam_train.data.sources.coco.outlines import Kind, Outlines
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.errors import FileError, InputError, Problem

_EXPORT = "export it anew as COCO instances"
_NO_SIZE = (0, 0)
_VISIBLE = 2  # of a keypoint; 1 is hidden, behind something else, and 0 is none
_OTHER = -1  # a category that does not count
_MOST_PROBLEMS = 1000  # told of records without an image: a screen shows ten


def read_index(path: Path, only: Sequence[str] | None = None, group_key: str | None = None) -> CocoIndex:
    """Read a COCO file, as tools write it and as they should.

    Args:
        path: The file.
        only: Names of the categories whose objects count; None for all.
        group_key: Key of an image's record that names its group.

    Raises:
        FileError: If it is damaged or no COCO file.
        InputError: If it lacks a category or the key.
    """
    with _no_collection():
        content = _load(path)
        images, annotations = (_records(content, key, path) for key in ("images", "annotations"))
        positions, problems = _positions(images, path)
        names, numbers = _categories(content, only, path)
        kept, image_of, category_of = _placed(annotations, positions, numbers, path, problems)
        order = np.argsort(image_of, kind="stable")
        kept = list(map(kept.__getitem__, order.tolist()))
        keypoint, keypoints = _keypoints(kept)
        groups = None if group_key is None else PackedTexts(_groups(images, group_key, path))
        return CocoIndex(
            path=path,
            names=PackedTexts(map(_name, images)),
            sizes=np.array([[_whole(image.get(key)) for key in ("height", "width")] for image in images], np.int32),
            groups=groups,
            start=np.searchsorted(np.array(image_of, np.int64)[order], np.arange(len(images) + 1)),
            categories=names,
            category=np.array(category_of, np.int32)[order],
            crowd=np.fromiter((bool(one.get("iscrowd")) for one in kept), bool, len(kept)),
            area=_numbers([one.get("area") for one in kept]),
            box=_boxes([one.get("bbox") for one in kept]),
            keypoint=keypoint,
            keypoints=keypoints,
            image_id=PackedTexts(str(image["id"]) for image in images),
            number=_ids([one.get("id") for one in kept], order),
            outlines=pack_outlines([one.get("segmentation") for one in kept], path),
            problems=tuple(problems[:_MOST_PROBLEMS]),
        )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Do without the search for cycles, of which JSON has none: it would take most of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def parse_json(text: bytes, path: Path) -> Any:
    """Return what the JSON text of a file says.

    Raises:
        FileError: If it is damaged.
    """
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)  # which takes NaN and other encodings, and says where it fails
        except ValueError as error:
            found = f"no complete JSON ({error}), {len(text)} bytes"
            raise FileError(Problem("damaged JSON", path, found, "copy or export it anew")) from error


def _load(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise FileError(Problem("unreadable file", path, str(error.strerror), "put it back")) from error
    content = parse_json(text, path)
    if not isinstance(content, dict):
        found = f"holds a {type(content).__name__}, where COCO has images, annotations and categories"
        raise FileError(Problem("no COCO file", path, found, _EXPORT))
    return content


def _records(content: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    records = content.get(key)
    if not isinstance(records, list) or not records or not all(type(record) is dict for record in records):
        have = ", ".join(content) or "nothing"
        found = f"has no list of {key}, but {have}" if not isinstance(records, list) else f"its {key} are no records"
        raise FileError(Problem("no COCO file", path, f"{found if records != [] else f'has no {key}'}", _EXPORT))
    return records


def _positions(images: list[dict[str, Any]], path: Path) -> tuple[dict[Any, int], list[Problem]]:
    """Return the index of each image by its id, and a problem for each that is listed twice."""
    by_id: dict[Any, int] = {}
    by_name: dict[str, int] = {}
    problems = []
    remedy = "keep one record of each image, with all its annotations"
    for index, image in enumerate(images):
        key, name = image.get("id"), _name(image)
        if not isinstance(key, (int, str)) or not name:
            found = f"record {index} of its images has no {'file_name' if not name else 'id'}"
            raise FileError(Problem("no COCO file", path, found, _EXPORT))
        if by_id.setdefault(key, index) != index:
            found = f"id {key} is {_name(images[by_id[key]])} and {name}"
            problems.append(Problem("image listed twice", path, found, remedy))
        elif by_name.setdefault(name, index) != index:
            found = f"{name} has the ids {images[by_name[name]]['id']} and {key}"
            problems.append(Problem("image listed twice", path, found, remedy))
    return by_id, problems


def _categories(content: Mapping[str, Any], only: Sequence[str] | None, path: Path) -> tuple[tuple[str, ...], dict]:
    """Return the names of the categories that count, and per id the index of each that is listed."""
    listed = content.get("categories") or []
    names = {
        one["id"]: str(one.get("name", one["id"]))
        for one in listed
        if isinstance(one, dict) and isinstance(one.get("id"), (int, str))
    }
    if only is None:
        return tuple(names.values()), {key: index for index, key in enumerate(names)}
    if missing := [name for name in only if name not in names.values()]:
        near = difflib.get_close_matches(missing[0], list(names.values()), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"data.categories: {path} has no category {missing[0]!r}; {hint}there are {', '.join(names.values())}"
        )
    kept = tuple(name for name in names.values() if name in only)
    return kept, {key: kept.index(name) if name in only else _OTHER for key, name in names.items()}


def _placed(
    annotations: list[dict[str, Any]],
    positions: Mapping[Any, int],
    categories: Mapping[Any, int],
    path: Path,
    problems: list[Problem],
) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    """Return the annotations that count, the image and the category of each; add a problem for each without."""
    kept, image_of, category_of = [], [], []
    for row, one in enumerate(annotations):
        try:
            image = positions.get(one.get("image_id"))
            category = categories.get(one.get("category_id")) if categories else 0
        except TypeError:  # a list or another record
            image = category = None
        if image is None:
            found = f"annotation {one.get('id', row)} is of image {one.get('image_id')}, which is not listed"
            problems.append(Problem("annotation without image", path, found, "list its image, or remove it"))
        elif category is None:
            found = f"annotation {one.get('id', row)} has category {one.get('category_id')}, which is not listed"
            problems.append(Problem("category not listed", path, found, "add it to the file's categories"))
        elif category != _OTHER:
            kept.append(one)
            image_of.append(image)
            category_of.append(category)
    return kept, image_of, category_of


def pack_outlines(found: list[Any], path: Path) -> Outlines:
    """Put outlines, as COCO's ``segmentation`` writes each, into arrays.

    Raises:
        FileError: If one has something else than numbers.
    """
    kinds, rings, texts, sizes = bytearray(), [], [], []
    for one in found:  # a million times: the common case first
        if type(one) is list and one and type(one[0]) is list:
            kinds.append(Kind.POLYGONS)
            rings.append(one)
            texts.append("")
            sizes.append(_NO_SIZE)
        else:
            kind, numbers, text, size = _rare_outline(one)
            kinds.append(kind)
            rings.append(numbers)
            texts.append(text)
            sizes.append(size)
    flat = list(chain.from_iterable(rings))
    try:
        lengths = np.fromiter(map(len, flat), np.int64, len(flat))
        numbers = np.fromiter(chain.from_iterable(flat), np.float64, int(lengths.sum()))
    except (TypeError, ValueError) as error:
        what = f"an outline has something else than numbers ({error})"
        raise FileError(Problem("unknown outline", path, what, _EXPORT)) from error
    return Outlines(
        kind=np.frombuffer(bytes(kinds), np.uint8),
        rings=np.cumsum([0, *map(len, rings)]),
        places=np.concatenate([[0], lengths.cumsum()]),
        numbers=numbers,
        texts=PackedTexts(texts),
        sizes=np.array(sizes, np.int32).reshape(-1, 2),
    )


def _rare_outline(found: Any) -> tuple[Kind, Sequence[Any], str, tuple[int, int]]:
    """Return how an outline is written that is no list of polygons, its lists of numbers, its text and its size."""
    if found is None or found == []:
        return Kind.NOTHING, (), "", _NO_SIZE
    if type(found) is list and type(found[0]) in (int, float):  # one polygon without the list around it
        return Kind.POLYGONS, (found,), "", _NO_SIZE
    if type(found) is dict:
        lengths, size = found.get("counts"), found.get("size")
        if isinstance(size, list) and len(size) == 2:
            height, width = map(_whole, size)
            if isinstance(lengths, str):
                return Kind.TEXT, (), lengths, (height, width)
            if isinstance(lengths, list):
                return Kind.RUN_LENGTHS, (lengths,), "", (height, width)
    return Kind.UNKNOWN, (), "", _NO_SIZE


def _groups(images: list[dict[str, Any]], key: str, path: Path) -> list[str]:
    if missing := [image for image in images if image.get(key) in (None, "")]:
        have = ", ".join(missing[0])
        raise InputError(f"data.group_key={key}: {len(missing)} images of {path} have none, such as one with {have}")
    return [str(image[key]) for image in images]


def _name(image: Mapping[str, Any]) -> str:
    """Return the name of an image's file; where there is an address alone, as in LVIS, its last folder and name."""
    name, address = image.get("file_name"), image.get("coco_url")
    if not name and address:
        return "/".join(str(address).split("/")[-2:])
    return str(name or "").replace("\\", "/")


def _ids(values: list[Any], otherwise: np.ndarray) -> np.ndarray:
    """Return the annotations' ids, or their positions if the ids are no whole numbers."""
    return (
        np.array(values, np.int64) if set(map(type, values)) == {int} and max(map(abs, values)) < 1 << 62 else otherwise
    )


def _boxes(values: list[Any]) -> np.ndarray:
    """Return boxes, nan for everything else."""
    try:
        boxes = np.array(values, np.float32)
    except (TypeError, ValueError):
        boxes = np.empty(0)
    if boxes.shape == (len(values), 4):
        return boxes
    none = [np.nan] * 4
    return np.array([value if _is_box(value) else none for value in values], np.float32).reshape(-1, 4)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(one, (int, float)) for one in value)


def _keypoints(annotations: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the visible keypoints of each annotation begin, and x and y of all."""
    counts, found = np.zeros(len(annotations) + 1, np.int64), []
    for row, one in enumerate(annotations):
        if values := one.get("keypoints"):
            is_triples = isinstance(values, list) and len(values) % 3 == 0
            if is_triples and all(isinstance(value, (int, float)) for value in values):
                triples = np.array(values, np.float32).reshape(-1, 3)
                found.append(triples[triples[:, 2] == _VISIBLE, :2])
                counts[row + 1] = len(found[-1])
    return counts.cumsum(), np.concatenate(found) if found else np.zeros((0, 2), np.float32)


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1 << 31 else 0


def _numbers(values: list[Any]) -> np.ndarray:
    """Return numbers, nan for everything else."""
    if set(map(type, values)) <= {int, float}:
        return np.array(values, np.float32)
    return np.array([value if isinstance(value, (int, float)) else np.nan for value in values], np.float32)
