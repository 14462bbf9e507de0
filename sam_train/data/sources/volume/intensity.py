"""From the numbers of a scanner to 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from sam_train.errors import FileError, InputError, Problem

WINDOWS: dict[str, tuple[float, float]] = {
    "soft_tissue": (-160, 240),  # level 40, width 400, as MedSAM prepares CT (Ma et al., 2024)
    "lung": (-1350, 150),  # level -600, width 1500
    "bone": (-500, 1300),  # level 400, width 1800
    "brain": (0, 80),  # level 40, width 80
}
"""Lowest and highest number that are told apart, in Hounsfield units; widths and levels are radiology's usual ones."""

PERCENTILES = (0.5, 99.5)
"""Of the voxels that are not 0, as MedSAM prepares MR."""


def window_of(name: str | Sequence[float]) -> tuple[float, float]:
    """Return the window of a name, or of two numbers.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(name, str):
        if name not in WINDOWS:
            raise InputError(f"data.window={name}: expected {', '.join(WINDOWS)} or two numbers, as [-160,240]")
        return WINDOWS[name]
    if len(name) != 2 or not name[0] < name[1]:
        raise InputError(f"data.window={list(name)}: expected the lower and the higher number, as [-160,240]")
    return name[0], name[1]


def to_eight_bits(
    voxels: Shaped[np.ndarray, "*shape"],
    window: tuple[float, float] | None,
    percentiles: tuple[float, float],
    path: Path,
) -> UInt8[np.ndarray, "*shape"]:
    """Return 0 for what is at the low end of a window or below, 255 for what is at its high end or above.

    Args:
        voxels: Of a whole volume.
        window: Its ends; None to take them from the volume.
        percentiles: Of the voxels that are not 0, which are the ends where there is no window.
        path: Of the volume, for messages.

    Raises:
        FileError: If a voxel is no number.
    """
    if voxels.dtype.kind == "f" and (wrong := voxels.size - int(np.isfinite(voxels).sum())):
        found = f"{wrong} of {voxels.size} voxels are no finite number"
        raise FileError(Problem("voxels that are no numbers", path, found, "replace them, for example by 0"))
    if window is None:
        there = voxels[voxels != 0]
        low, high = np.percentile(there, percentiles).tolist() if there.size else (0.0, 0.0)
        if low == high and there.size:
            low, high = min(float(there.min()), 0.0), float(there.max())
    else:
        low, high = window
    scale = 255 / (high - low) if high > low else 0.0
    result = np.empty(voxels.shape, np.uint8)
    for index in range(len(voxels)):  # part by part: the whole in floating point would be four times the volume
        part = np.clip(voxels[index].astype(np.float32), low, high)
        result[index] = np.rint((part - low) * scale)
    return result
