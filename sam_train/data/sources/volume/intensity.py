"""From the numbers of a scanner to 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from sam_train.data.sources.tones import PERCENTILES, Tones, Window, ends_of, stretched
from sam_train.errors import FileError, Problem


def to_eight_bits(
    voxels: Shaped[np.ndarray, "*shape"], tones: Tones, path: Path, window: Window | None = None
) -> UInt8[np.ndarray, "*shape"]:
    """Return 0 for what is at the low end of a window or below, 255 for what is at its high end or above.

    Percentiles are of the voxels that are not 0, as MedSAM prepares MR: around a head there is nothing but 0.

    Args:
        voxels: Of a whole volume; three channels are in a fourth axis, and each is stretched by itself.
        tones: The rule.
        path: Of the volume, for messages.
        window: The ends where the rule has no window; None to take them from the volume.

    Raises:
        FileError: If a voxel is no number.
    """
    require_finite(voxels, path)
    if voxels.ndim == 3:
        return _of_channel(voxels, tones.window(0) or window, tones.percentiles or PERCENTILES)
    result = np.empty(voxels.shape, np.uint8)
    for channel in range(voxels.shape[3]):
        ends = tones.window(channel) or window
        result[..., channel] = _of_channel(voxels[..., channel], ends, tones.percentiles or PERCENTILES)
    return result


def require_finite(voxels: Shaped[np.ndarray, "*shape"], path: Path) -> None:
    """Refuse a volume with voxels that are no numbers.

    Raises:
        FileError: If there are any.
    """
    if voxels.dtype.kind == "f" and (wrong := voxels.size - int(np.isfinite(voxels).sum())):
        found = f"{wrong} of {voxels.size} voxels are no finite number"
        raise FileError(Problem("voxels that are no numbers", path, found, "replace them, for example by 0"))


def _of_channel(
    voxels: Shaped[np.ndarray, "x y z"], window: Window | None, percentiles: tuple[float, float]
) -> UInt8[np.ndarray, "x y z"]:
    if window is None:
        there = voxels[voxels != 0]
        window = ends_of(there, percentiles) if there.size else (0.0, 0.0)
        if window[0] == window[1]:
            window = min(window[0], 0.0), window[1]
    return stretched(voxels, window)
