"""Records that cannot be read, left out, counted and named: ``data.on_error=skip``."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from sam_train.data.sources.base import Choose, DataSource, ImageSet, ImageSubset, Split, VolumeSlice, all_objects
from sam_train.data.sources.doubts import Answer
from sam_train.data.sources.video.clips import ClipSet
from sam_train.errors import FileError, InputError, Problem
from sam_train.files import write_text
from sam_train.limits import check_limits
from sam_train.structures import Sample

FILE = "skipped.jsonl"
MOST_CAUSES = 10
"""A few broken files are nobody's fault, in a set of any size. More may be skipped as long as they are few of all."""
MOST_SHARE = 0.01
"""What is left out beyond this changes what the scores are about; such data want a look, not a switch."""
LOOSE = "records without an image"

T = TypeVar("T")


class SkippedError(FileError):
    """Raised instead of a sample where a record is left out."""


class SkippedRecords:
    """Names of the records that are left out, in a file that all processes of a run append to.

    Each line is one record: ``id`` (empty for what belongs to no image), ``split``, ``kind``, ``path``, ``found`` and
    ``remedy``. Two processes that meet the same record at once may both name it; it counts once.

    Args:
        path: Of the file, which need not exist.
        counts: Number of images of each split.
    """

    def __init__(self, path: Path, counts: Mapping[str, int]) -> None:
        self.path = path
        self.counts = dict(counts)
        self._found: dict[str, dict[str, Any]] = {}
        self._read = 0  # bytes of the file
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def forget(self, splits: Collection[str]) -> None:
        """Begin anew: records of these splits may have been mended since they were named."""
        with self._lock:
            kept = [one for one in self.all() if one["split"] not in splits]
            self._found, self._read = {}, 0
            self._write(self.path, kept)

    def add(self, split: str, image: str, problem: Problem) -> None:
        """Name a record.

        Args:
            split: That it is of.
            image: Id of the image that is left out; empty if there is none.
            problem: Why.

        Raises:
            InputError: If too much is left out.
        """
        told = {"kind": problem.kind, "path": str(problem.path), "found": problem.found, "remedy": problem.remedy}
        record = {"id": image, "split": split, **told}
        with self._lock:
            self._refresh()
            if _key(record) in self._found:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write at the end of the file: lines of several processes do not mix.
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(file, (json.dumps(record) + "\n").encode())
            finally:
                os.close(file)
            self._refresh()
            self._require_few()

    def problem(self, image: str) -> Problem | None:
        """Return why an image is left out, whichever process met it; None if it is not."""
        self._refresh()
        found = self._found.get(image)
        return Problem(found["kind"], Path(found["path"]), found["found"], found["remedy"]) if found else None

    def all(self) -> list[dict[str, Any]]:
        """Return every record once, ordered by split and id."""
        self._refresh()
        return sorted(self._found.values(), key=lambda one: (one["split"], one["id"], one["path"], one["found"]))

    def numbers(self) -> dict[str, int]:
        """Return how many images of each split are left out, and how many records are that belong to no image."""
        return dict(Counter(one["split"] if one["id"] else LOOSE for one in self.all()))

    def save(self, folder: Path) -> None:
        """Leave the file in a folder, whole and each record once; no file where nothing is left out."""
        self._write(folder / FILE, self.all())

    @staticmethod
    def _write(path: Path, records: Collection[Mapping[str, Any]]) -> None:
        if records:
            write_text(path, "".join(f"{json.dumps(one)}\n" for one in records))
        else:
            path.unlink(missing_ok=True)

    def _refresh(self) -> None:
        """Read what other processes have added."""
        try:
            if self.path.stat().st_size == self._read:
                return
        except OSError:
            return
        with self._lock, self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
            end = lines.rfind(b"\n") + 1  # another process may be at the last one
            self._read += end
            for line in lines[:end].splitlines():
                record = _record(line)
                if record is not None:
                    self._found.setdefault(_key(record), record)

    def _require_few(self) -> None:
        images = [one for one in self._found.values() if one["id"]]
        causes = {(one["path"], one["found"]) for one in images}  # of all slices of a volume one
        numbers, total = self.numbers(), sum(self.counts.values())
        empty = [split for split, count in self.counts.items() if count and numbers.get(split, 0) >= count]
        is_many = len(causes) > MOST_CAUSES and len(images) > MOST_SHARE * total
        if empty or is_many:
            what = f"no {empty[0]} image can be read" if empty else f"more than {MOST_SHARE:.0%} cannot be read"
            some = "".join(f"\n  {one['path']}: {one['found']}" for one in images[:MOST_CAUSES])
            raise InputError(
                f"data.on_error=skip: {len(images)} of {total} images are left out so far, and {what}; mend the data, "
                f"or take the records out. {self.path} names all, such as{some}"
            )


def _key(record: Mapping[str, Any]) -> str:
    return record["id"] or f"\0{record['path']}: {record['found']}"


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None if the line is torn, as by a crash."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    names = ("id", "split", "kind", "path", "found", "remedy")
    return record if isinstance(record, dict) and all(isinstance(record.get(name), str) for name in names) else None


class ForgivingImages(ImageSet):
    """Images of which those that cannot be read are left out.

    They keep their place, so that everything random about the others is as it would be without a fault. Whether some
    objects of an image can be read is tried each time: what happened before, in whichever process, must change nothing.

    Args:
        images: The images.
        split: Which they are.
        skipped: Where those are named that are left out.
    """

    def __init__(self, images: ImageSet, split: str, skipped: SkippedRecords) -> None:
        self.images = images
        self.split = split
        self.skipped = skipped
        self.ids = images.ids
        self.categories = images.categories

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`.

        Raises:
            SkippedError: If the image is left out.
            InputError: If too many are.
        """
        if choose is all_objects and (problem := self.skipped.problem(self.ids[index])):
            raise SkippedError(problem)
        try:
            return self.images.read(index, choose, with_image)
        except FileError as error:
            self.skipped.add(self.split, self.ids[index], error.problem)
            raise SkippedError(error.problem) from error

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`; an image that cannot be read is like no other."""
        return self._asked(index, self.images.identity, f"unreadable: {self.ids[index]}")

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`."""
        return self._asked(index, self.images.fingerprint, f"unreadable: {self.ids[index]}")

    def stored(self, index: int) -> bytes | None:
        """See :meth:`ImageSet.stored`."""
        return self._asked(index, self.images.stored, None)

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.images.group(index)

    def alike(self, index: int) -> range:
        """See :meth:`ImageSet.alike`."""
        return self.images.alike(index)

    @property
    def epoch_size(self) -> int:
        """Number of images that an epoch shows."""
        return self.images.epoch_size

    def slice_of(self, index: int) -> VolumeSlice | None:
        """See :meth:`ImageSet.slice_of`."""
        return self._asked(index, self.images.slice_of, None)

    def problems(self, index: int) -> list[Problem]:
        """Name what is wrong instead of returning it; answers about the whole set are returned."""
        found = self.images.problems(index)
        faults = [problem for problem in found if not isinstance(problem, Answer)]
        if faults and self._can_read(index):
            for problem in faults:
                self.skipped.add(self.split, "", problem)
        return [problem for problem in found if isinstance(problem, Answer)]

    def shuffled(self, generator: torch.Generator) -> Int[Tensor, "n"]:
        """See :meth:`ImageSet.shuffled`."""
        return self.images.shuffled(generator)

    def as_clips(self) -> ClipSet | None:
        """See :meth:`ImageSet.as_clips`; names what is in none, and a frame that cannot be read ends the run."""
        clips = self.images.as_clips()
        frames = None if clips is None else set(clips.ids)
        for index, name in enumerate(self.ids):
            if frames is not None and name not in frames:
                self._can_read(index)
        return clips

    def by_source(self) -> Mapping[str, ImageSet]:
        """See :meth:`ImageSet.by_source`.

        Raises:
            InputError: If there are several: what one of them leaves out is not known to the others.
        """
        if self.images.by_source():
            raise InputError(
                "data.on_error=skip: with task=video nothing is left out of several sources; mend the data, or give one"
            )
        return {}

    def is_left_out(self, index: int) -> bool:
        """Tell whether an image could not be read, in whichever process."""
        return self.skipped.problem(self.ids[index]) is not None

    def readable(self) -> ImageSet:
        """Return the images without those that have been left out so far."""
        out = {one["id"] for one in self.skipped.all()}
        kept = [index for index, name in enumerate(self.ids) if name not in out]
        return self if len(kept) == len(self) else ImageSubset(self, kept)

    def _can_read(self, index: int) -> bool:
        try:
            self.read(index)
        except SkippedError:
            return False
        return True

    def _asked(self, index: int, ask: Callable[[int], T], otherwise: T) -> T:
        try:
            return ask(index)
        except FileError as error:
            self.skipped.add(self.split, self.ids[index], error.problem)
            return otherwise


def splits_of(source: DataSource, folder: Path) -> dict[Split, ImageSet]:
    """Return a source's splits; with ``on_error=skip`` what cannot be read is named in a folder's ``skipped.jsonl``.

    Raises:
        InputError: If the settings do not fit the data.
    """
    check_limits("data", {"on_error": source.on_error})
    splits = source.splits()
    if source.on_error == "stop":
        return splits
    distinct = {id(images): (split, images) for split, images in reversed(splits.items())}  # a split may serve twice
    skipped = SkippedRecords(folder.absolute() / FILE, {split: len(images) for split, images in distinct.values()})
    wrapped = {key: ForgivingImages(images, split, skipped) for key, (split, images) in distinct.items()}
    return {split: wrapped[id(images)] for split, images in splits.items()}


def begin_skipping(splits: Mapping[Split, ImageSet], anew: Collection[Split] = ()) -> None:
    """Name what belongs to no image, in the first process of a run.

    Args:
        splits: As :func:`splits_of` returned them.
        anew: Splits of which nothing is known yet; what an earlier run named is tried again.
    """
    for split, images in splits.items():
        if split in anew and isinstance(images, ForgivingImages):
            images.skipped.forget({images.split})
    for images in _forgiving(splits):
        for problem in images.images.loose_ends:
            images.skipped.add(images.split, "", problem)


def skipped_of(splits: Mapping[Split, ImageSet]) -> SkippedRecords | None:
    """Return where the records are named that are left out; None where none may be."""
    return next((images.skipped for images in _forgiving(splits)), None)


def _forgiving(splits: Mapping[Split, ImageSet]) -> Iterator[ForgivingImages]:
    return (images for images in splits.values() if isinstance(images, ForgivingImages))
