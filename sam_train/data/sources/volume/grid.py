"""Voxels and where they are in the patient.

Arrays have the axes right, anterior, superior (RAS): index 0 is leftmost, hindmost and lowest. Slices are shown as
radiologists look at them: the patient's right, or front in sagittal slices, at the left, and front or head at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Shaped

Axis = Literal["axial", "coronal", "sagittal"]
_AXES: dict[Axis, tuple[int, int, int]] = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
"""Of each direction the axes of slices, rows and columns."""

_SAME_PLACE = 0.1  # of a voxel: rounded headers differ by less, shifted volumes by more
_THICK = 1.5  # times the finest spacing: below, a volume is as fine in all directions


@dataclass(frozen=True)
class Grid:
    """Places of voxels.

    Attributes:
        shape: Number of voxels along each axis.
        affine: From indices of voxels to mm in the patient, right, anterior and superior.
    """

    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm from voxel to voxel along each axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    def away_from(self, other: Grid) -> float:
        """Return how far the same corner of two grids lies apart at most, in voxels of the finest spacing."""
        corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in self.shape), 1]
        return float(np.abs((self.affine - other.affine) @ corners.T).max() / min(self.spacing))

    def difference(self, other: Grid) -> str | None:
        """Return in words why two grids are not the same; None if they are."""
        if self.shape != other.shape:
            return f"{_times(self.shape)} voxels, not {_times(other.shape)}"
        if (away := self.away_from(other)) > _SAME_PLACE:
            return f"its voxels lie up to {away:.1f} voxels elsewhere in the patient"
        return None

    def thick_axis(self) -> Axis:
        """Return the direction of slices that lie farthest apart; axial where all directions are alike."""
        directions: tuple[Axis, ...] = get_args(Axis)
        widest = max(directions, key=lambda axis: self.spacing[_AXES[axis][0]])
        return widest if self.spacing[_AXES[widest][0]] > _THICK * min(self.spacing) else "axial"

    def slice_spacing(self, axis: Axis) -> tuple[float, float, float]:
        """Distance in mm from slice to slice, and in these from row to row and from column to column."""
        slices, rows, columns = _AXES[axis]
        return self.spacing[slices], self.spacing[rows], self.spacing[columns]


@dataclass(frozen=True)
class Volume:
    """Numbers of voxels.

    Attributes:
        voxels: Right, anterior, superior; then channels, if there are several.
        grid: Where they are.
        is_ct: Whether the file says that they are Hounsfield units of a CT.
    """

    voxels: Shaped[np.ndarray, "x y z"] | Shaped[np.ndarray, "x y z c"]
    grid: Grid
    is_ct: bool = False


def to_ras(voxels: np.ndarray, affine: Float[np.ndarray, "4 4"]) -> tuple[np.ndarray, Grid]:
    """Turn an array of any orientation, by permuting and flipping its first three axes alone.

    Args:
        voxels: As it is stored.
        affine: From its indices to mm, right, anterior and superior.
    """
    from nibabel import orientations

    turn = orientations.io_orientation(affine)
    turned = orientations.apply_orientation(voxels, turn)
    x, y, z = turned.shape[:3]
    return turned, Grid((x, y, z), affine @ orientations.inv_ornt_aff(turn, voxels.shape[:3]))


def from_ras(voxels: np.ndarray, affine: Float[np.ndarray, "4 4"]) -> np.ndarray:
    """Undo :func:`to_ras` of an array with this affine."""
    from nibabel import orientations

    stored = orientations.io_orientation(affine)
    return orientations.apply_orientation(
        voxels, orientations.ornt_transform(orientations.io_orientation(np.eye(4)), stored)
    )


def lps_affine(affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """Return an affine to right, anterior, superior for one to left, posterior, superior, as DICOM and ITK have it."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def to_slices(voxels: np.ndarray, axis: Axis) -> np.ndarray:
    """Return slices by ascending place, rows from the top, columns from the left; further axes follow."""
    order = _AXES[axis]
    flips = tuple(slice(None) if number == order[0] else slice(None, None, -1) for number in range(3))
    return voxels[flips].transpose(*order, *range(3, voxels.ndim))


def from_slices(slices: Shaped[np.ndarray, "n h w"], axis: Axis) -> Shaped[np.ndarray, "x y z"]:
    """Undo :func:`to_slices`."""
    order = _AXES[axis]
    flips = tuple(slice(None) if number == order[0] else slice(None, None, -1) for number in range(3))
    return slices.transpose(*np.argsort(order))[flips]


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
