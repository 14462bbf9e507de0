"""Images from files, as 8-bit red, green and blue.

Transparency is ignored and the stored colors count, as in the tools the tuned model goes on to. What is stored with
more than 8 bits, integer or floating point, is stretched image by image: the 0.5th percentile of its finite numbers
becomes 0 and the 99.5th 255, as MedSAM prepares its data (Ma et al., "Segment Anything in Medical Images", 2024, "Data
curation and pre-processing"). Nothing of other images enters, so a held-out image looks the same whatever it is
evaluated with. Colors of 16-bit integers are the exception: their high bytes are kept, and where these are next to
nothing the image is refused.

Images and masks alike are turned upright as their EXIF orientation says: people draw masks on the upright image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from PIL import Image
from torch import Tensor

from sam_train.data.sources.decoding import REWRITE, decode
from sam_train.data.sources.raster import Raster
from sam_train.errors import FileError, Problem

_PERCENTILES = (0.5, 99.5)
_DARK = 32  # colors of 16 bits whose high bytes stay below hold 13 bits at most, and would be nearly black


def read_image(path: Path, content: bytes | None = None) -> UInt8[Tensor, "3 h w"]:
    """Read an image of any supported kind as 8-bit red, green, blue, in channels-last memory.

    Args:
        path: The file.
        content: Its bytes, where they are known and the path is but their name in messages.

    Raises:
        FileError: If the file is no image, is damaged or has several pages or bands of unclear meaning, or if its
            colors have 16 bits of which the higher ones are not used.
    """
    return to_rgb(decode(path, content), path)


def to_rgb(raster: Raster, path: Path) -> UInt8[Tensor, "3 h w"]:
    """Return what :func:`read_image` makes of the pixels of a file.

    Raises:
        FileError: If there is hardly anything to see in 8 bits.
    """
    pixels = raster.channels
    if raster.palette is not None:
        colors = np.zeros((256, 3), np.uint8)
        colors[: len(raster.palette)] = raster.palette
        pixels = colors[pixels[..., 0].astype(np.uint8)]
    elif raster.mode not in ("L", "RGB"):
        pixels = np.array(Image.frombytes(raster.mode, pixels.shape[1::-1], pixels.tobytes()).convert("RGB"))
    else:
        pixels = _eight_bits(pixels, raster, path)
    if raster.high_bytes and pixels.max() < _DARK:
        found = (
            f"no channel goes beyond {int(pixels.max()) * 256 + 255} of 65535: 8 bits would hold hardly anything of it"
        )
        raise FileError(Problem("dark 16-bit color", path, found, "save it with 8 bits and as bright as wanted"))
    if pixels.shape[2] != 3 or not pixels.flags.c_contiguous:  # four times as fast as a copy of the slice
        pixels = np.stack([pixels[..., channel % pixels.shape[2]] for channel in range(3)], axis=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _eight_bits(pixels: Shaped[np.ndarray, "h w c"], raster: Raster, path: Path) -> UInt8[np.ndarray, "h w c"]:
    if pixels.dtype == np.int8:
        return (pixels.astype(np.int16) + 128).astype(np.uint8)
    if pixels.dtype not in (np.uint8, np.bool_):
        return _stretched(pixels, path)
    if raster.white != 255:
        pixels = np.rint(pixels * (255 / raster.white)).astype(np.uint8)
    return 255 - pixels if raster.white_is_zero else pixels


def _stretched(pixels: np.ndarray, path: Path) -> UInt8[np.ndarray, "*shape"]:
    if pixels.dtype == np.uint16:  # each of its numbers once, weighted by how often it is there
        counts = np.bincount(pixels.ravel(), minlength=1 << 16)
        return _stretch(np.arange(1 << 16), *_bounds(counts))[pixels]
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    if not finite.size:
        raise FileError(Problem("unreadable file", path, "no pixel is a finite number", REWRITE))
    low, high = np.percentile(finite, _PERCENTILES)
    if low == high:
        low, high = finite.min(), finite.max()
    return _stretch(pixels, low, high)


def _bounds(counts: Int[np.ndarray, "v"]) -> tuple[float, float]:
    """Return what becomes 0 and 255 where the number v is there ``counts[v]`` times; as ``np.percentile``."""
    ends = counts.cumsum()
    places = (ends[-1] - 1) * np.array(_PERCENTILES) / 100
    below = np.searchsorted(ends, np.floor(places), side="right")
    above = np.searchsorted(ends, np.ceil(places), side="right")
    low, high = below + (above - below) * (places % 1)
    if low == high:
        low, high = counts.nonzero()[0][[0, -1]]
    return low, high


def _stretch(pixels: np.ndarray, low: float, high: float) -> UInt8[np.ndarray, "*shape"]:
    stretched = (np.clip(pixels, low, high) - low) * (255 / (high - low) if high > low else 0)
    return np.rint(np.nan_to_num(stretched)).astype(np.uint8)
