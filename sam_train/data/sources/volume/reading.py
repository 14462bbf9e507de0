"""Reads a volume from a file: NIfTI through nibabel, NRRD and MHA through SimpleITK."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam_train.data.sources.volume.grid import Volume, lps_affine, to_ras
from sam_train.errors import FileError, InputError, Problem

if TYPE_CHECKING:
    import SimpleITK

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (*NIFTI, *ITK)
_MOST_VOXELS = 1 << 32
_LIBRARIES = ("nibabel", "SimpleITK", "pydicom", "highdicom")


def require_libraries() -> None:
    """Refuse to begin without what reads volumes.

    Raises:
        InputError: If a library is not installed.
    """
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise InputError(f"volumes need {', '.join(missing)}: pip install 'sam-train[volumes]'")


def stem_of(name: str) -> str | None:
    """Return the name of a volume's file without its suffix; None if it is no volume."""
    suffix = next((suffix for suffix in (".nii.gz", *SUFFIXES) if name.lower().endswith(suffix)), None)
    return None if suffix is None else name[: -len(suffix)]


def read_volume(path: Path) -> Volume:
    """Read a volume, of three axes or of four with channels last.

    Raises:
        FileError: If it is missing, damaged, too large, or has other axes.
    """
    if not path.is_file() or path.stat().st_size == 0:
        raise FileError(Problem("unreadable volume", path, "no file, or no bytes in it", "copy it anew"))
    try:
        voxels, affine = (_read_nifti if path.name.lower().endswith(NIFTI) else _read_itk)(path)
    except FileError:
        raise
    except Exception as error:  # libraries raise anything on damaged bytes
        found = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise FileError(Problem("unreadable volume", path, found, "copy it anew")) from error
    voxels = voxels.reshape(voxels.shape + (1,) * max(3 - voxels.ndim, 0))
    if voxels.ndim > 3:
        voxels = voxels.squeeze(tuple(axis for axis in range(3, voxels.ndim) if voxels.shape[axis] == 1))
    if voxels.ndim > 4 or voxels.dtype.kind not in "biuf":
        found = f"{voxels.dtype} in {voxels.ndim} axes of {voxels.shape}"
        raise FileError(Problem("no volume", path, found, "save one number a voxel, and channels in a fourth axis"))
    return Volume(*to_ras(voxels, affine))


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    image = nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage]
    _refuse_huge(image.shape, path)  # pyright: ignore[reportAttributeAccessIssue]
    return np.asanyarray(image.dataobj), np.asarray(image.affine, np.float64)  # pyright: ignore[reportAttributeAccessIssue]


def _read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    _refuse_huge(reader.GetSize(), path)
    size = reader.GetDimension()
    if size > 3:
        raise ValueError(f"{size} axes")
    voxels = SimpleITK.GetArrayFromImage(reader.Execute())
    return voxels.transpose(*range(size - 1, -1, -1), *range(size, voxels.ndim)), itk_affine(reader)


def itk_affine(header: SimpleITK.ImageFileReader) -> np.ndarray:
    """Return the affine from indices to mm, right, anterior and superior, of a file whose header was read."""
    size = header.GetDimension()
    affine = np.eye(4)
    affine[:size, :size] = np.reshape(header.GetDirection(), (size, size)) * header.GetSpacing()
    affine[:size, 3] = header.GetOrigin()
    return lps_affine(affine)


def _refuse_huge(shape: tuple[int, ...], path: Path) -> None:
    if np.prod(shape, dtype=float) > _MOST_VOXELS:
        found = f"{' x '.join(map(str, shape))} voxels, more than {_MOST_VOXELS}"
        raise FileError(Problem("too large", path, found, "cut it into parts"))
