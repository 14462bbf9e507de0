"""Images and labels as MedSAM's preprocessing writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.groups import match_groups
from sam_train.data.sources.npz.arrays import read_array
from sam_train.data.sources.npz.content import boxes_of, image_by_rule, image_of, labels_of, stored_bands
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.safe_walk import walk_files
from sam_train.data.sources.splits import complete_splits
from sam_train.data.sources.tones import Tones
from sam_train.data.sources.volume.cases import Case
from sam_train.data.sources.volume.opening import OpenVolume, OpenVolumes, Reading
from sam_train.data.sources.volume.slices import Scan, slices_of, split_slices, tell_empty
from sam_train.errors import FileError, InputError, Problem
from sam_train.machine import num_processors

_OBJECTS = ("labels", "components")


@dataclass(frozen=True)
class NpzSource(PixelSource):
    """npz files with ``imgs``, ``gts`` and perhaps ``spacing`` and ``boxes``, or folders of npy files.

    The folders are ``imgs`` and ``gts``, with a file of the same name for each image or slice.

    An image has rows and columns, and three channels last; or slices first. Slices without labels are left out. Images
    are taken as they are, in 8 bits, where no ``window``, ``percentiles`` or ``channels`` says how they become so.

    Attributes:
        root: The folder that holds all files; nothing outside it is read.
        objects: ``labels``: each number is an object. ``components``: every connected piece of it in a slice is one.
        open_volumes: Number of files that a process keeps open; training mixes the slices of as many.
        split: Shares of train, val and test.
        split_seed: Another seed gives another split.
        group_pattern: Regular expression, searched in the file's name, that names the patient. None for the file, or
            for the scan where MedSAM's preprocessing wrote each slice of it as ``<scan>-<number>.npy``.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all files are read and checked before training.
    """

    root: str
    objects: str = "labels"
    open_volumes: int = 4
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    group_pattern: str | None = None
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have slices. Labels are read, to know which slices have any.

        Raises:
            InputError: If settings and files do not fit each other.
        """
        if self.objects not in _OBJECTS:
            raise InputError(f"data.objects={self.objects}: expected one of {', '.join(_OBJECTS)}")
        if not isinstance(self.open_volumes, int) or self.open_volumes < 1:
            raise InputError(f"data.open_volumes={self.open_volumes}: expected a whole number, at least 1")
        tones = self.tones()
        root = Path(str(self.root)).expanduser().absolute()
        cases = _find(root)
        with ThreadPoolExecutor(min(num_processors(), 8)) as pool:
            scans = list(pool.map(_scan, cases))
        if problem := next((scan.problem for scan in scans if scan.problem and self.is_strict), None):
            raise FileError(problem)
        tell_empty(cases, scans, root)
        names = [case.id for case in cases]
        groups = match_groups(self.group_pattern, names) if self.group_pattern else [_scan_name(case) for case in cases]
        reading = Reading("slice", tones, (0, 255), False, {}, None)
        categories = sorted({name for scan in scans for name in scan.names}, key=int)
        volumes = OpenArrays(cases, reading, self.open_volumes)
        images = slices_of(cases, scans, volumes, groups, self.objects, categories)
        return complete_splits(split_slices(images, self.split, self.split_seed), str(root))


class OpenArrays(OpenVolumes):
    """The files used last."""

    def open(self, case: Case) -> OpenVolume:
        """Read the arrays of a case.

        Raises:
            FileError: If they are damaged, not prepared, or do not fit each other.
        """
        labels = labels_of(case)
        tones = self.reading.tones
        image = image_of(case) if tones == Tones() else image_by_rule(case, labels.shape, tones)
        if image.shape[:3] != labels.shape:
            found = f"imgs of {image.shape}, but gts of {labels.shape} (slices, height, width)"
            raise FileError(Problem("size mismatch", case.labels[0], found, "prepare both anew, from one scan"))
        is_npz = case.image[0].suffix == ".npz"
        stored = read_array(case.image[0], "spacing") if is_npz else None
        spacing = None
        if stored is not None and stored.size == 3:  # of x, y and z
            across, down, through = (float(one) for one in stored.ravel())
            spacing = through, down, across
        numbers = np.unique(labels).tolist()
        boxes = boxes_of(case) if is_npz else []
        return OpenVolume(image, labels[None], {number: str(number) for number in numbers if number}, spacing, boxes)

    def numbers(self, case: Case) -> list[Shaped[np.ndarray, "n"]]:
        """See :meth:`OpenVolumes.numbers`; zeros count as well."""
        shown = stored_bands(case, labels_of(case).shape, self.reading.tones)
        return [group.ravel() for group in self.reading.tones.groups(shown)]


def _scan_name(case: Case) -> str:
    is_slice = case.image[0].suffix == ".npy"
    return re.sub(r"-\d+$", "", case.id) if is_slice else case.id


def _find(root: Path) -> list[Case]:
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; it should hold npz files, or folders imgs and gts of npy")
    names = set(walk_files(root))
    cases = [Case(name[:-4], (root / name,), (root / name,)) for name in sorted(names) if name.endswith(".npz")]
    for name in sorted(names):
        folder, _, file = name.rpartition("/")
        if not file.endswith(".npy") or folder.rpartition("/")[2] != "imgs":
            continue
        other = f"{folder[:-4]}gts/{file}"
        found = f"no {root / other} beside it"
        problem = None if other in names else Problem("image without labels", root / name, found, "add it")
        cases.append(Case(f"{folder[:-4]}{file[:-4]}", (root / name,), (root / other,), problem=problem))
    if not cases:
        raise InputError(f"{root}: neither npz files nor folders imgs and gts of npy files")
    return cases


def _scan(case: Case) -> Scan:
    try:
        labels = labels_of(case)
    except FileError as error:
        return Scan((0,), (), error.problem)
    places = np.flatnonzero(labels.reshape(len(labels), -1).any(axis=1))
    return Scan(places.tolist(), [str(number) for number in np.unique(labels).tolist() if number])
