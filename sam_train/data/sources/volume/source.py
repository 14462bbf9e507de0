"""Slices of volumes with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.groups import match_groups
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.splits import complete_splits
from sam_train.data.sources.tones import WINDOWS
from sam_train.data.sources.volume.cases import Case, find_cases, read_description
from sam_train.data.sources.volume.grid import to_slices
from sam_train.data.sources.volume.opening import OpenVolumes, Reading, read_labels
from sam_train.data.sources.volume.reading import require_libraries
from sam_train.data.sources.volume.slices import Scan, slices_of, split_slices, tell_empty
from sam_train.errors import FileError, InputError
from sam_train.machine import num_processors

_AXES = ("axial", "coronal", "sagittal", "thick")
_OBJECTS = ("labels", "components")


@dataclass(frozen=True)
class VolumeSource(PixelSource):
    """Slices of NIfTI, NRRD and MHA volumes and of DICOM series, with label volumes, DICOM SEG or RTSTRUCT.

    Volumes and labels have the same names in two folders (``imagesTr`` and ``labelsTr``, ``images`` and ``labels``),
    are listed in a ``dataset.json``, or are DICOM series with the SEG and RTSTRUCT files that are about them.

    Where there is no ``window``, what says that it is CT has that of soft tissue, and of everything else
    ``percentiles`` of the voxels that are not 0 become black and white.

    Attributes:
        root: The folder that holds all others; nothing outside it is read.
        images: Folder of the volumes below ``root``; None to find it.
        labels: Folder of the label volumes below ``root``; None to find it.
        axis: Direction of the slices: ``axial``, ``coronal``, ``sagittal``, or ``thick``, in which a volume's slices
            lie farthest apart.
        objects: ``labels``: each number is an object. ``components``: every connected piece of it in a slice is one.
        categories: Names of the labels whose objects count; None for all.
        neighbors: Whether the slices below and above become red and blue.
        empty_slices: Whether slices without labels belong to the data.
        open_volumes: Number of volumes that a process keeps open; training mixes the slices of as many.
        split: Shares of train, val and test.
        split_seed: Another seed gives another split.
        group_pattern: Regular expression, searched in the volume's name, that names the patient. None for the Patient
            ID of DICOM, and for the volume itself elsewhere.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all files are read and checked before training.
    """

    root: str
    images: str | None = None
    labels: str | None = None
    axis: str = "axial"
    objects: str = "labels"
    categories: Sequence[str] | None = None
    neighbors: bool = False
    empty_slices: bool = False
    open_volumes: int = 4
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    group_pattern: str | None = None
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have slices. Label volumes are read, to know which slices have labels.

        Raises:
            InputError: If settings and files do not fit each other, or a library is not installed.
        """
        require_libraries()
        self._require_settings()
        root = Path(str(self.root)).expanduser().absolute()
        description = read_description(root)
        cases = find_cases(root, self.images, self.labels, description)
        reading = Reading(
            self.axis,
            self.tones(),
            WINDOWS["soft_tissue"],
            self.neighbors,
            description.names,
            self.categories,
            description.is_ct,
        )
        scans = _scan_all(cases, reading, self.empty_slices)
        if problem := next((scan.problem for scan in scans if scan.problem and self.is_strict), None):
            raise FileError(problem)
        names = sorted({name for scan in scans for name in scan.names})
        if self.categories is not None and (missing := [name for name in self.categories if name not in names]):
            raise InputError(
                f"data.categories: no volume has a label {missing[0]!r}; there are {self._all_names(cases, reading)}"
            )
        tell_empty(cases, scans, root)
        groups = self._groups(cases)
        images = slices_of(cases, scans, OpenVolumes(cases, reading, self.open_volumes), groups, self.objects, names)
        return complete_splits(split_slices(images, self.split, self.split_seed), str(root))

    def _require_settings(self) -> None:
        for name, value, choices in (("axis", self.axis, _AXES), ("objects", self.objects, _OBJECTS)):
            if value not in choices:
                raise InputError(f"data.{name}={value}: expected one of {', '.join(choices)}")
        if isinstance(self.categories, str):
            raise InputError(f"data.categories={self.categories}: expected names in brackets, as [{self.categories}]")
        if self.neighbors and len(self.tones().channels) == 3:
            raise InputError("data.neighbors and three data.channels both say what is red, green and blue; give one")
        if not isinstance(self.open_volumes, int) or self.open_volumes < 1:
            raise InputError(f"data.open_volumes={self.open_volumes}: expected a whole number, at least 1")

    def _groups(self, cases: Sequence[Case]) -> list[str]:
        if self.group_pattern is not None:
            return match_groups(self.group_pattern, [case.id for case in cases])
        return [case.patient or case.id for case in cases]

    def _all_names(self, cases: Sequence[Case], reading: Reading) -> str:
        everything = _scan_all(cases, replace(reading, categories=None), False)
        return ", ".join(sorted({name for scan in everything for name in scan.names})) or "none at all"


def _scan_all(cases: Sequence[Case], reading: Reading, empty_slices: bool) -> list[Scan]:
    """Read all labels; threads do it, because decompressing releases Python's lock."""
    with ThreadPoolExecutor(min(num_processors(), 8)) as pool:
        return list(pool.map(lambda case: _scan(case, reading, empty_slices), cases))


def _scan(case: Case, reading: Reading, empty_slices: bool) -> Scan:
    try:
        labels = read_labels(case, reading)
    except FileError as error:
        return Scan((0,), (), error.problem)
    slices = to_slices(labels.planes.max(axis=0), reading.direction(labels.grid))
    has_labels = slices.reshape(len(slices), -1).any(axis=1)
    places = np.flatnonzero(has_labels | empty_slices)
    return Scan(places.tolist(), tuple(labels.names.values()))
