"""Volumes as slices, and label volumes where their sources are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from sam_train.data.sources.image_files import to_rgb
from sam_train.data.sources.raster import Raster
from sam_train.errors import FileError, Problem
from sam_train.files import written_whole

SUFFIXES = (".nii", ".nii.gz")


class Volume:
    """A NIfTI file, whose slices along its third axis are images: x to the right, y down.

    Args:
        path: The file.

    Raises:
        FileError: If it is damaged or no volume.
    """

    def __init__(self, path: Path) -> None:
        import nibabel

        try:
            self._file: Any = nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage]
            values = np.asarray(self._file.dataobj)
        except Exception as error:  # readers raise anything on damaged bytes
            raise FileError(Problem("unreadable file", path, f"{error}", "replace it")) from error
        values = (
            values.reshape(values.shape[:3]) if values.ndim > 3 and values.size == np.prod(values.shape[:3]) else values
        )
        if values.ndim != 3 or not values.size:
            found = f"an array of {' x '.join(map(str, values.shape))}"
            raise FileError(Problem("no volume", path, found, "give a volume of three axes"))
        self.path = path
        self._values: Shaped[np.ndarray, "x y z"] = values
        self._size: tuple[int, ...] = values.shape

    def __len__(self) -> int:
        return self._size[2]

    def slices(self) -> Iterator[UInt8[Tensor, "3 y x"]]:
        """Yield the slices as images, stretched alike: contrast is the volume's, not the slice's."""
        x, y, z = self._size
        pixels = to_rgb(Raster(self._values.reshape(x, y * z), "L"), self.path)[0].view(x, y, z)
        for index in range(z):
            yield pixels[:, :, index].T.expand(3, y, x).contiguous()

    def write_labels(self, path: Path, labels: Int[np.ndarray, "z y x"]) -> None:
        """Write a label volume with this one's place and spacing."""
        import nibabel

        header = self._file.header.copy()
        header.set_slope_inter(1, 0)
        header.set_data_dtype(labels.dtype)
        volume = nibabel.Nifti1Image(labels.transpose(2, 1, 0), self._file.affine, header)  # pyright: ignore[reportPrivateImportUsage]
        with written_whole(path) as file:
            nibabel.save(volume, file)  # pyright: ignore[reportPrivateImportUsage]
