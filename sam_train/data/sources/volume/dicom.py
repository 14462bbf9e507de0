"""DICOM files below a folder, by series, and the volume that a series is.

Slices are ordered by their position along the normal of their planes. Their numbers and names say nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sam_train.data.sources.volume.grid import Volume, lps_affine, to_ras
from sam_train.errors import FileError, Problem

LABELS = ("SEG", "RTSTRUCT")
_HEAD = ("SOPInstanceUID", "SeriesInstanceUID", "Modality", "PatientID", "Rows", "Columns", "NumberOfFrames")
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_EVEN = 0.1  # of the distance of two slices: positions are rounded


@dataclass(frozen=True)
class Slice:
    """One file of a series.

    Attributes:
        path: The file.
        uid: SOP Instance UID.
        series: Series Instance UID.
        modality: Such as CT.
        patient: Patient ID; may be empty.
        header: The tags that say where the slice is.
    """

    path: Path
    uid: str
    series: str
    modality: str
    patient: str
    header: Any


def read_headers(paths: Iterable[Path]) -> dict[str, list[Slice]]:
    """Read the headers of files; return those of each series.

    Raises:
        FileError: If one cannot be read.
    """
    import pydicom

    series: dict[str, list[Slice]] = defaultdict(list)
    for path in paths:
        try:
            tags = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_HEAD, *_PLACE])
            found = [
                str(tags.get(name, "")) for name in ("SOPInstanceUID", "SeriesInstanceUID", "Modality", "PatientID")
            ]
        except Exception as error:
            raise FileError(Problem("unreadable DICOM", path, str(error), "copy it anew")) from error
        series[found[1]].append(Slice(path, *found, header=tags))
    return dict(series)


@dataclass(frozen=True)
class Series:
    """Slices of a series in order.

    Attributes:
        slices: By their place along the normal.
        affine: From indices of column, row and slice to mm, left, posterior and superior, as DICOM has them.
    """

    slices: tuple[Slice, ...]
    affine: Float[np.ndarray, "4 4"]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        header = self.slices[0].header
        return int(header.Rows), int(header.Columns)


def order_slices(slices: Sequence[Slice]) -> Series:
    """Order the slices of a series.

    Raises:
        FileError: If they are of two series or orientations, or if one is missing or there twice.
    """
    first = slices[0]
    folder = first.path.parent
    if len({one.series for one in slices}) > 1:
        found = f"{len({one.series for one in slices})} series in one folder"
        raise FileError(Problem("several series", folder, found, "put each into a folder of its own"))
    for one in slices:
        if any(one.header.get(name) is None for name in (*_PLACE[:3], "Rows", "Columns")):
            found = "does not say where it is in the patient (several frames in one file, or no plane of a volume)"
            raise FileError(Problem("slice without a place", one.path, found, "convert it to NIfTI"))
        for name in ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
            if not np.allclose(_numbers(one.header[name].value), _numbers(first.header[name].value), atol=1e-3):
                found = f"{name} is {one.header[name].value}, but {first.header[name].value} in {first.path.name}"
                raise FileError(Problem("slices that do not fit", one.path, found, "remove it from the series"))
    across, down = np.reshape(_numbers(first.header.ImageOrientationPatient), (2, 3))
    normal = np.cross(across, down)
    places = [float(normal @ _numbers(one.header.ImagePositionPatient)) for one in slices]
    ordered = tuple(slices[row] for row in np.argsort(places))
    step = _even_step(ordered, np.sort(places))
    if step is None:
        step = float(first.header.get("SliceThickness") or 1)
    affine = np.eye(4)
    spacing = _numbers(first.header.PixelSpacing)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * spacing[1], down * spacing[0], normal * step
    affine[:3, 3] = _numbers(ordered[0].header.ImagePositionPatient)
    return Series(ordered, affine)


def read_series(series: Series) -> Volume:
    """Read the pixels of a series, in the units of its modality (Hounsfield units of a CT).

    Raises:
        FileError: If a slice cannot be read or is in color.
    """
    planes = [_read_pixels(one.path) for one in series.slices]
    voxels = np.stack(planes, axis=-1).swapaxes(0, 1)
    turned, grid = to_ras(voxels, lps_affine(series.affine))
    return Volume(turned, grid, series.slices[0].modality == "CT")


def _read_pixels(path: Path) -> np.ndarray:
    import pydicom
    from pydicom.pixels.processing import apply_rescale

    try:
        tags = pydicom.dcmread(path)
        pixels = apply_rescale(tags.pixel_array, tags)
    except Exception as error:  # decoders raise anything on damaged bytes
        raise FileError(Problem("unreadable DICOM", path, str(error), "copy it anew")) from error
    if pixels.ndim != 2:
        found = f"pixels of shape {pixels.shape}: in color, or several frames"
        raise FileError(Problem("unreadable DICOM", path, found, "convert it to images or to NIfTI"))
    pixels = pixels.astype(np.float32)
    if tags.get("PhotometricInterpretation") != "MONOCHROME1":
        return pixels
    bits, is_signed = int(tags.BitsStored), bool(tags.get("PixelRepresentation", 0))
    ends = np.array([-(1 << bits - 1), (1 << bits - 1) - 1] if is_signed else [0, (1 << bits) - 1])
    return np.float32(apply_rescale(ends, tags).sum()) - pixels  # of all that the bits can say, alike in every slice


def _even_step(slices: Sequence[Slice], places: Float[np.ndarray, "n"]) -> float | None:
    """Return the distance of neighbors, None for a single slice; refuse gaps and copies."""
    if len(slices) < 2:
        return None
    steps = np.diff(places)
    usual = float(np.median(steps))
    for before, here, step in zip(slices, slices[1:], steps, strict=False):
        if abs(step - usual) > _EVEN * usual or step <= 0:
            what = "unevenly spaced"
            if step < usual / 4:
                what = "there twice"
            elif step > usual * 1.5:
                what = f"{round(step / usual) - 1} missing"
            found = f"{step:g} mm after {before.path.name}, where slices are {usual:g} mm apart: {what}"
            remedy = "complete the series, or keep each slice once"
            raise FileError(Problem("slices missing or twice", here.path, found, remedy))
    return usual


def _numbers(values: Any) -> Float[np.ndarray, "n"]:
    return np.atleast_1d(np.asarray(values, np.float64))
