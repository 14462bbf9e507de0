"""Volumes as slices, a few of them open at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from sam_train.data.sources.prompt_files import GivenObject
from sam_train.data.sources.tones import Tones, Window
from sam_train.data.sources.volume.cases import Case
from sam_train.data.sources.volume.dicom import Series, order_slices, read_headers, read_series
from sam_train.data.sources.volume.dicom_labels import read_segments
from sam_train.data.sources.volume.grid import Axis, Grid, Volume, lps_affine, to_ras, to_slices
from sam_train.data.sources.volume.intensity import require_finite, to_eight_bits
from sam_train.data.sources.volume.reading import read_volume, stem_of
from sam_train.errors import FileError, Problem


@dataclass(frozen=True)
class Reading:
    """Settings of what a volume is read as.

    Attributes:
        axis: Direction of the slices; ``thick`` for that in which they lie farthest apart.
        tones: How voxels become 8 bits.
        ct_window: Ends of the window of what says that it is CT, where the rule has none.
        neighbors: Whether the slices below and above are red and blue.
        names: Names of label numbers.
        categories: Names of the labels that count; None for all.
        is_ct: Whether all volumes are CT.
    """

    axis: str
    tones: Tones
    ct_window: Window
    neighbors: bool
    names: Mapping[int, str]
    categories: Sequence[str] | None
    is_ct: bool = False

    def direction(self, grid: Grid) -> Axis:
        """Return the direction of the slices of a volume."""
        return grid.thick_axis() if self.axis == "thick" else self.axis  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Labels:
    """Objects of a volume.

    Attributes:
        planes: Right, anterior and superior after an axis of planes; objects that overlap are on different ones.
        names: Names of the numbers that count.
        grid: Where the voxels are.
    """

    planes: Integer[np.ndarray, "L x y z"]
    names: Mapping[int, str]
    grid: Grid


@dataclass(frozen=True)
class OpenVolume:
    """Slices of a volume in 8 bits, and of its labels.

    Attributes:
        image: Slices, rows, columns; then three channels where they are not alike.
        planes: Numbers of objects, slice by slice.
        names: Names of the numbers that count.
        spacing: Distance in mm from slice to slice, from row to row and from column to column; None where it
            is unknown.
        boxes: Boxes that came with the volume, each with the first and the last slice that it is in.
    """

    image: UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w 3"]
    planes: Integer[np.ndarray, "L n h w"]
    names: Mapping[int, str]
    spacing: tuple[float, float, float] | None
    boxes: Sequence[tuple[GivenObject, int, int]] = ()

    def given(self, place: int, names: Sequence[str]) -> list[GivenObject | None] | None:
        """Return the boxes in a slice of the labels of these names; None where boxes are not one for each label."""
        if len(self.boxes) != len(self.names):
            return None
        by_name = dict(zip(self.names.values(), self.boxes, strict=True))
        found = [by_name[name] for name in names]
        return [box if first <= place <= last else None for box, first, last in found]


def read_labels(case: Case, reading: Reading) -> Labels:
    """Read the labels of a case.

    Raises:
        FileError: If they cannot be read or are no labels.
    """
    if case.problem:
        raise FileError(case.problem)
    if stem_of(case.labels[0].name) is not None:
        return _of_volume(case, reading)
    series = _series(case)
    names: dict[int, str] = {}
    planes: list[np.ndarray] = []
    for path in case.labels:
        for name, mask in read_segments(path, series):
            if reading.categories is not None and name not in reading.categories:
                continue
            number = len(names) + 1
            names[number] = name
            plane = next((plane for plane in planes if not plane[mask].any()), None)
            if plane is None:
                plane = np.zeros(mask.shape, np.uint16)
                planes.append(plane)
            plane[mask] = number
    if not planes:
        planes = [np.zeros((len(series.slices), *series.size), np.uint16)]
    turned = [to_ras(plane.transpose(2, 1, 0), lps_affine(series.affine)) for plane in planes]
    return Labels(np.stack([plane for plane, _ in turned]), names, turned[0][1])


def open_volume(case: Case, reading: Reading) -> OpenVolume:
    """Read a case.

    Raises:
        FileError: If a file cannot be read, or labels and volume do not fit each other.
    """
    labels = read_labels(case, reading)
    volume = _read_image(case, reading)
    if found := labels.grid.difference(volume.grid):
        remedy = f"resample the labels to {case.image[0].name} (nearest neighbor), or export both anew"
        raise FileError(Problem("labels of another volume", case.labels[0], found, remedy))
    axis = reading.direction(volume.grid)
    own = reading.ct_window if volume.is_ct or reading.is_ct else None
    eight = to_eight_bits(volume.voxels, reading.tones, case.image[0], own)
    return OpenVolume(
        image=np.ascontiguousarray(to_slices(eight, axis)),
        planes=np.stack([np.ascontiguousarray(to_slices(plane, axis)) for plane in labels.planes]),
        names=labels.names,
        spacing=volume.grid.slice_spacing(axis),
    )


class OpenVolumes:
    """The volumes used last, so that each is decoded once as long as its slices are asked for.

    Args:
        cases: All volumes.
        reading: How they are read.
        capacity: Number of volumes that are kept.
    """

    def __init__(self, cases: Sequence[Case], reading: Reading, capacity: int) -> None:
        self.cases = cases
        self.reading = reading
        self.capacity = capacity
        self.num_opened = 0
        self._reset()

    def _reset(self) -> None:
        self._open: OrderedDict[int, OpenVolume] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._reset()

    def open(self, case: Case) -> OpenVolume:
        """Read a volume; see :func:`open_volume`."""
        return open_volume(case, self.reading)

    def numbers(self, case: Case) -> list[Shaped[np.ndarray, "n"]]:
        """Return the voxels of a volume that are not 0, of each channel that is shown.

        Raises:
            FileError: If it cannot be read.
        """
        voxels = _read_image(case, self.reading).voxels
        require_finite(voxels, case.image[0])
        return [one[one != 0] for one in _channels(voxels)]

    def __getitem__(self, index: int) -> OpenVolume:
        with self._lock:  # also while one is read: threads that want the same must not read it twice
            if index not in self._open:
                while len(self._open) >= self.capacity:
                    self._open.popitem(last=False)
                self._open[index] = self.open(self.cases[index])
                self.num_opened += 1
            self._open.move_to_end(index)
            return self._open[index]


def _series(case: Case) -> Series:
    return order_slices([one for slices in read_headers(case.image).values() for one in slices])


def _of_volume(case: Case, reading: Reading) -> Labels:
    path = case.labels[0]
    volume = read_volume(path)
    voxels = volume.voxels
    if voxels.ndim != 3:
        found = f"{voxels.shape[3]} channels, where labels have one"
        raise FileError(Problem("no labels", path, found, "save one number a voxel"))
    if voxels.dtype.kind == "f" and not ((whole := np.isfinite(voxels)) & (voxels == np.rint(voxels))).all():
        wrong = voxels[~(whole & (voxels == np.rint(voxels)))][0]
        found = f"holds {wrong:g}, where each voxel should be the whole number of its label"
        raise FileError(Problem("non-integer labels", path, found, "save labels as whole numbers, without smoothing"))
    low, high = int(voxels.min()), int(voxels.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        found = f"holds {low} to {high}, where 0 is background and labels count from 1"
        raise FileError(Problem("labels out of range", path, found, "number labels from 1"))
    labels = voxels.astype(np.uint8 if high < 256 else np.int32)
    numbers = np.unique(labels).tolist()
    names = {number: reading.names.get(number, str(number)) for number in numbers if number}
    if reading.categories is not None:
        others = [number for number in names if names[number] not in reading.categories]
        labels = np.where(np.isin(labels, others), 0, labels)
        names = {number: name for number, name in names.items() if number not in others}
    return Labels(labels[None], names, volume.grid)


def _read_image(case: Case, reading: Reading) -> Volume:
    if case.is_series:
        return read_series(_series(case))
    parts = [read_volume(path) for path in case.image]
    for path, part in zip(case.image, parts, strict=True):
        if found := part.grid.difference(parts[0].grid):
            remedy = "resample them to one grid"
            raise FileError(Problem("channels that do not fit", path, f"{found} of {case.image[0].name}", remedy))
    channels = [channel for part in parts for channel in _channels(part.voxels)]
    chosen = [channel - 1 for channel in reading.tones.channels] or ([0] if len(channels) == 1 else [])
    if not chosen or max(chosen) >= len(channels):
        found = f"{len(channels)} channels"
        remedy = f"say which to show: data.channels=[1], or three of 1 to {len(channels)} as red, green and blue"
        raise FileError(Problem("several channels", case.image[0], found, remedy))
    voxels = channels[chosen[0]] if len(chosen) == 1 else np.stack([channels[one] for one in chosen], axis=-1)
    return replace(parts[0], voxels=voxels)


def _channels(voxels: np.ndarray) -> list[np.ndarray]:
    return [voxels] if voxels.ndim == 3 else list(np.moveaxis(voxels, -1, 0))
