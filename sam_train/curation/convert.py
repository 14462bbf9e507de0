"""A data source written in another format: by several processes, and resumed where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from sam_train.curation.formats import FORMATS, Format, Part
from sam_train.curation.parallel import in_processes
from sam_train.curation.records import read_records
from sam_train.data.sources.base import ImageSet, Split
from sam_train.errors import FileError, InputError
from sam_train.files import write_json

_MARK = ".convert.json"


def convert(
    splits: Mapping[Split, ImageSet],
    kind: str,
    folder: Path,
    settings: Mapping[str, Any],
    progress: Progress | None = None,
) -> int:
    """Write all images and objects of a data source; what an interrupted call has left is not done again.

    The files are a function of the data alone: the same however often it was interrupted, and by how many processes.

    Args:
        splits: The images. A split that stands in for another is written once.
        kind: Name of the format, a key of :data:`.FORMATS`.
        folder: For the output: a new one, or that of an interrupted call with the same settings.
        settings: What data these are, by which an interrupted call is recognized.
        progress: Shows how far it is.

    Returns:
        How many images there are now.

    Raises:
        InputError: If the folder holds anything else, if there are no images, or a file of theirs cannot be used.
    """
    distinct: dict[Split, ImageSet] = {
        name: images
        for name, images in splits.items()
        if len(images) and (name != "test" or images is not splits.get("val"))
    }
    if not distinct:
        raise InputError("data: there are no images in any split; see data.split")
    mark = {"format": kind, "data": {**settings}, "images": {name: _names(images) for name, images in distinct.items()}}
    mark = json.loads(json.dumps(mark))  # as it is read again
    number = sum(map(len, distinct.values()))
    if _is_done(folder, mark):
        return number
    form = FORMATS[kind]
    parts = _parts(distinct, form.images_per_part)
    left = [part for part in parts if not form.path(folder, part).exists()]
    bar = progress.add_task("images", total=number) if progress else None
    if progress and bar is not None:
        progress.advance(bar, number - sum(len(part.indices) for part in left))
    for done in in_processes(partial(_write, form, distinct, folder), left):
        if isinstance(done, FileError):
            raise done
        if progress and bar is not None:
            progress.advance(bar, done)
    categories = dict.fromkeys(name for images in distinct.values() for name in images.categories)
    form.finish(folder, parts, list(categories))
    write_json(folder / _MARK, {**mark, "done": True})
    form.tidy(folder)
    return number


def _parts(splits: Mapping[Split, ImageSet], size: int) -> list[Part]:
    parts, before = [], 0
    for split, images in splits.items():
        starts = range(0, len(images), size)
        for number, first in enumerate(starts):
            indices = range(first, min(first + size, len(images)))
            parts.append(Part(split, number, len(starts), indices, before))
        before += len(images)
    return parts


def _write(form: Format, splits: Mapping[Split, ImageSet], folder: Path, part: Part) -> int | FileError:
    """Write a part; return its number of images, or the error that a process could pass on as text only."""
    try:
        form.write(folder, part, read_records(splits[part.split], part.indices))
    except FileError as error:
        return error
    return len(part.indices)


def _names(images: ImageSet) -> str:
    """Return the number of images and a hash of their names."""
    digest = hashlib.blake2b(digest_size=8)
    for name in images.ids:
        digest.update(f"{name}\n".encode("utf-8", "surrogatepass"))
    return f"{len(images)} {digest.hexdigest()}"


def _is_done(folder: Path, mark: Mapping[str, Any]) -> bool:
    """Take a folder for the output, and tell whether an earlier call has written everything.

    Raises:
        InputError: If it holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output={folder}: a file; name a folder")
    known = folder / _MARK
    if known.is_file():
        earlier = json.loads(known.read_text(encoding="utf-8"))
        done = earlier.pop("done", False)
        if earlier != mark:
            differing = next(key for key in mark if earlier.get(key) != mark[key])
            raise InputError(
                f"output={folder}: holds what was converted from other data or to another format ({differing}: "
                f"{earlier.get(differing)}, now {mark[differing]}); name another folder"
            )
        for left in folder.rglob(".unfinished-*"):  # of a call that was killed
            left.unlink()
        if done:
            FORMATS[earlier["format"]].tidy(folder)
        return done
    if folder.is_dir() and (left := sorted(path.name for path in folder.iterdir())):
        raise InputError(f"output={folder}: holds {left[0]} and {len(left) - 1} others; name a new or an empty folder")
    write_json(known, mark)
    return False
