"""Volumes as slices that look as in training, and label volumes where their sources are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sam_train.data.sources.other_kinds import is_dicom
from sam_train.data.sources.tones import PERCENTILES, WINDOWS, Tones
from sam_train.data.sources.volume import grid
from sam_train.data.sources.volume.dicom import LABELS, order_slices, read_headers, read_series
from sam_train.data.sources.volume.grid import Axis, from_ras, from_slices, to_slices
from sam_train.data.sources.volume.intensity import to_eight_bits
from sam_train.data.sources.volume.reading import SUFFIXES, itk_affine, read_volume
from sam_train.errors import FileError, Problem
from sam_train.files import written_whole

__all__ = ["SUFFIXES", "View", "Volume", "is_dicom_file"]

_LABEL_SUFFIXES = {".nrrd": ".nrrd", ".nhdr": ".nrrd", ".mha": ".mha", ".mhd": ".mha"}


@dataclass(frozen=True)
class View:
    """How volumes are looked at, as :class:`sam_train.data.sources.volume.VolumeSource` has it.

    Attributes:
        axis: Direction of the slices, or ``thick`` for that in which they lie farthest apart.
        window: Lowest and highest number that are told apart; None to take the ends from the volume.
        percentiles: Of the voxels that are not 0, which are the ends where there is no window.
        neighbors: Whether the slices below and above are red and blue.
    """

    axis: str = "axial"
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] = PERCENTILES
    neighbors: bool = False


class Volume:
    """A volume as slices, shown as :mod:`sam_train.data.sources.volume.grid` says.

    Args:
        path: A file of NIfTI, NRRD or MHA, or a folder with the files of a DICOM series.
        view: How it is looked at.

    Attributes:
        label_suffix: Of the file that :meth:`write_labels` writes: that of the source; NIfTI for DICOM.

    Raises:
        FileError: If it is damaged or no volume of one channel.
    """

    def __init__(self, path: Path, view: View) -> None:
        found = read_volume(path) if path.is_file() else _read_dicom(path)
        if found.voxels.ndim != 3 or not found.voxels.size:
            shape = " x ".join(map(str, found.voxels.shape))
            raise FileError(Problem("no volume", path, f"an array of {shape}", "give a volume of three axes"))
        self.path = path
        self.axis: Axis = found.grid.thick_axis() if view.axis == "thick" else view.axis  # pyright: ignore[reportAttributeAccessIssue]
        self.neighbors = view.neighbors
        self.label_suffix = _LABEL_SUFFIXES.get(path.suffix.lower(), ".nii.gz") if path.is_file() else ".nii.gz"
        self._affine = found.grid.affine
        window = WINDOWS["soft_tissue"] if view.window is None and found.is_ct else view.window
        tones = Tones((), (window,) if window else (), view.percentiles)
        self._slices = to_slices(to_eight_bits(found.voxels, tones, path), self.axis)

    def __len__(self) -> int:
        return len(self._slices)

    def slices(self) -> Iterator[UInt8[Tensor, "3 h w"]]:
        """Yield the slices as images."""
        yield from map(self.slice, range(len(self)))

    def slice(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """Return one slice as an image."""
        around = (-1, 0, 1) if self.neighbors else (0, 0, 0)
        rows = [min(max(index + step, 0), len(self) - 1) for step in around]
        return torch.from_numpy(self._slices[rows].copy())

    def write_labels(self, path: Path, labels: Int[np.ndarray, "n h w"]) -> None:
        """Write the labels of all slices as a volume with this one's axes, place and spacing."""
        voxels = from_slices(labels, self.axis)
        if self.label_suffix != ".nii.gz":
            _write_itk(path, voxels, self.path)
            return
        import nibabel

        affine, header = self._affine, None
        if self.path.is_file():
            source: Any = nibabel.load(self.path)  # pyright: ignore[reportPrivateImportUsage]
            affine, header = source.affine, source.header.copy()
            header.set_slope_inter(1, 0)
            header.set_data_dtype(labels.dtype)
        volume = nibabel.Nifti1Image(from_ras(voxels, affine), affine, header)  # pyright: ignore[reportPrivateImportUsage]
        with written_whole(path) as file:
            nibabel.save(volume, file)  # pyright: ignore[reportPrivateImportUsage]


def _read_dicom(folder: Path) -> grid.Volume:
    """Read the only series of images in a folder."""
    series = read_headers(path for path in sorted(folder.iterdir()) if is_dicom_file(path))
    images = [one for slices in series.values() for one in slices if one.modality not in LABELS]
    if not images:
        raise FileError(Problem("no volume", folder, "no DICOM image in it", "name the folder of a series"))
    return read_series(order_slices(images))


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file is DICOM, by its name or, where that has no suffix, by its first bytes."""
    return path.suffix.lower() == ".dcm" or (not path.suffix and is_dicom(path))


def _write_itk(path: Path, voxels: Int[np.ndarray, "x y z"], source: Path) -> None:
    import SimpleITK

    header = SimpleITK.ImageFileReader()
    header.SetFileName(str(source))
    header.ReadImageInformation()
    stored = from_ras(voxels, itk_affine(header)).transpose(2, 1, 0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(stored if header.GetDimension() == 3 else stored[0]))
    image.SetOrigin(header.GetOrigin())
    image.SetSpacing(header.GetSpacing())
    image.SetDirection(header.GetDirection())
    with written_whole(path) as file:
        SimpleITK.WriteImage(image, str(file), useCompression=True)
