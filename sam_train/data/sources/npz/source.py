"""Images and labels as MedSAM's preprocessing writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.groups import match_groups
from sam_train.data.sources.npz.arrays import read_array
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.safe_walk import walk_files
from sam_train.data.sources.splits import complete_splits
from sam_train.data.sources.tones import PERCENTILES, Tones, ends_of, stretched
from sam_train.data.sources.volume.cases import Case
from sam_train.data.sources.volume.opening import OpenVolume, OpenVolumes, Reading
from sam_train.data.sources.volume.slices import Scan, slices_of, split_slices, tell_empty
from sam_train.errors import FileError, InputError, Problem
from sam_train.machine import num_processors

_OBJECTS = ("labels", "components")


@dataclass(frozen=True)
class NpzSource(PixelSource):
    """npz files with ``imgs``, ``gts`` and perhaps ``spacing``, or folders ``imgs`` and ``gts`` of npy files.

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
        check: Whether all files are read and checked before training.
    """

    root: str
    objects: str = "labels"
    open_volumes: int = 4
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    group_pattern: str | None = None
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
        if problem := next((scan.problem for scan in scans if scan.problem and not self.check), None):
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
        labels = _labels(case)
        tones = self.reading.tones
        image = _image(case) if tones == Tones() else _by_rule(case, labels.shape, tones)
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
        return OpenVolume(image, labels[None], {number: str(number) for number in numbers if number}, spacing)

    def numbers(self, case: Case) -> list[Shaped[np.ndarray, "n"]]:
        """See :meth:`OpenVolumes.numbers`; zeros count as well."""
        shown = _stored(case, _labels(case).shape, self.reading.tones)
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
        labels = _labels(case)
    except FileError as error:
        return Scan((0,), (), error.problem)
    places = np.flatnonzero(labels.reshape(len(labels), -1).any(axis=1))
    return Scan(places.tolist(), [str(number) for number in np.unique(labels).tolist() if number])


def _array(case: Case, name: str) -> np.ndarray:
    path = (case.image if name == "imgs" else case.labels)[0]
    found = read_array(path, name) if path.suffix == ".npz" else read_array(path)
    if found is None:
        raise FileError(Problem("array missing", path, f"has no {name}", "write imgs and gts into it"))
    return found


def _labels(case: Case) -> Integer[np.ndarray, "n h w"]:
    if case.problem:
        raise FileError(case.problem)
    found = _array(case, "gts")
    found = found[None] if found.ndim == 2 else found
    is_whole = found.dtype.kind in "biu" or (found.dtype.kind == "f" and bool((found == np.rint(found)).all()))
    if found.ndim != 3 or not is_whole or not found.size or found.min() < 0 or found.max() > np.iinfo(np.int32).max:
        what = f"gts are {found.dtype} of {found.shape}, where whole numbers from 0 on belong, in 2 or 3 axes"
        raise FileError(Problem("no labels", case.labels[0], what, "write the number of its object for each pixel"))
    return found.astype(np.uint8 if found.max() < 256 else np.int32)


def _image(case: Case) -> UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w 3"]:
    """Return slices in 8 bits: as they are, or times 255 where they lie between 0 and 1, as MedSAM's npy files do."""
    path, found = case.image[0], _numbers(case)
    if found.ndim == 2 or (found.ndim == 3 and found.shape[-1] == 3):
        found = found[None]
    if found.ndim not in (3, 4) or (found.ndim == 4 and found.shape[-1] != 3):
        remedy = "write rows and columns, slices before them, three channels after them"
        raise FileError(Problem("no image", path, f"imgs have the shape {found.shape}", remedy))
    low, high = float(found.min()), float(found.max())
    if low < 0 or high > 255:
        what = f"imgs hold {low:g} to {high:g}, where prepared ones hold 0 to 1 or 0 to 255"
        raise FileError(Problem("not prepared", path, what, "bring them to 8 bits, or use data=volume on the scans"))
    scale = 255 if found.dtype.kind == "f" and high <= 1 else 1
    return np.array(np.rint(found * scale) if found.dtype.kind == "f" else found, np.uint8, order="C")


def _numbers(case: Case) -> Shaped[np.ndarray, "*shape"]:
    found = _array(case, "imgs")
    if found.dtype.kind not in "biuf" or not found.size or not np.isfinite(found).all():
        what = f"imgs are {found.dtype} of {found.shape}"
        raise FileError(Problem("no image", case.image[0], what, "write finite numbers"))
    return found


def _stored(case: Case, size: tuple[int, ...], tones: Tones) -> Shaped[np.ndarray, "n h w c"]:
    """Return the bands that are shown, as they are stored; bands come after the axes that labels of this size have."""
    found = _numbers(case)
    found = found[None] if found.shape[:3] != size else found
    found = found[..., None] if found.ndim == 3 else found
    if found.shape[:3] != size or found.ndim != 4:
        sizes = f"imgs of {found.shape}, but gts of {size}"
        raise FileError(Problem("size mismatch", case.image[0], sizes, "prepare both anew, from one scan"))
    return tones.chosen(found, case.image[0])


def _by_rule(
    case: Case, size: tuple[int, ...], tones: Tones
) -> UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w 3"]:
    shown = _stored(case, size, tones)
    if shown.dtype == np.uint8 and not tones.windows and tones.percentiles is None:
        result = np.ascontiguousarray(shown)
    else:
        ends = [tones.window(number) for number in range(3)]
        groups = zip(tones.groups(shown), ends, strict=False)
        parts = [stretched(one, end or ends_of(one, tones.percentiles or PERCENTILES)) for one, end in groups]
        result = np.concatenate(parts, axis=-1)
    if result.shape[-1] == 1:
        return result[..., 0]
    if result.shape[-1] != 3:
        found = f"{result.shape[-1]} bands, and nothing says what they show"
        raise FileError(Problem("unclear bands", case.image[0], found, "say which to show: data.channels=[3,2,1]"))
    return result
