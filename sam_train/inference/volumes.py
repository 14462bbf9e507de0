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

from sam_train.data.sources.tones import PERCENTILES, Tones
from sam_train.data.sources.volume.grid import Axis, from_ras, from_slices, to_slices
from sam_train.data.sources.volume.intensity import to_eight_bits
from sam_train.data.sources.volume.reading import NIFTI, read_volume
from sam_train.errors import FileError, Problem
from sam_train.files import written_whole

SUFFIXES = NIFTI


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
    """A NIfTI file as slices, shown as :mod:`sam_train.data.sources.volume.grid` says.

    Args:
        path: The file.
        view: How it is looked at.

    Raises:
        FileError: If it is damaged or no volume of one channel.
    """

    def __init__(self, path: Path, view: View) -> None:
        found = read_volume(path)
        if found.voxels.ndim != 3 or not found.voxels.size:
            shape = " x ".join(map(str, found.voxels.shape))
            raise FileError(Problem("no volume", path, f"an array of {shape}", "give a volume of three axes"))
        self.path = path
        self.axis: Axis = found.grid.thick_axis() if view.axis == "thick" else view.axis  # pyright: ignore[reportAttributeAccessIssue]
        self.neighbors = view.neighbors
        tones = Tones((), (view.window,) if view.window else (), view.percentiles)
        self._slices = to_slices(to_eight_bits(found.voxels, tones, path), self.axis)

    def __len__(self) -> int:
        return len(self._slices)

    def slices(self) -> Iterator[UInt8[Tensor, "3 h w"]]:
        """Yield the slices as images."""
        around = (-1, 0, 1) if self.neighbors else (0, 0, 0)
        for index in range(len(self)):
            rows = [min(max(index + step, 0), len(self) - 1) for step in around]
            yield torch.from_numpy(self._slices[rows].copy())

    def write_labels(self, path: Path, labels: Int[np.ndarray, "n h w"]) -> None:
        """Write the labels of all slices as a volume with this one's axes, place and spacing."""
        import nibabel

        source: Any = nibabel.load(self.path)  # pyright: ignore[reportPrivateImportUsage]
        header = source.header.copy()
        header.set_slope_inter(1, 0)
        header.set_data_dtype(labels.dtype)
        stored = from_ras(from_slices(labels, self.axis), source.affine)
        volume = nibabel.Nifti1Image(stored, source.affine, header)  # pyright: ignore[reportPrivateImportUsage]
        with written_whole(path) as file:
            nibabel.save(volume, file)  # pyright: ignore[reportPrivateImportUsage]
