"""Images from files, as 8-bit red, green and blue.

Transparency is ignored and the stored colors count, as in the tools the tuned model goes on to. What is stored with
more than 8 bits, integer or floating point, is stretched image by image: the 0.5th percentile of its finite numbers
becomes 0 and the 99.5th 255, as MedSAM prepares its data (Ma et al., "Segment Anything in Medical Images", 2024, "Data
curation and pre-processing"). Nothing of other images enters, so a held-out image looks the same whatever it is
evaluated with. Colors of 16-bit integers are the exception: their high bytes are kept, and where these are next to
nothing the image is refused. Another rule (:class:`Tones`) names bands, a window or percentiles, and then all stored
bits count.

Images and masks alike are turned upright as their EXIF orientation says: people draw masks on the upright image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor

from sam_train.data.sources.decoding import REWRITE, decode
from sam_train.data.sources.raster import Raster
from sam_train.data.sources.tones import PERCENTILES, Tones, ends_of, stretched
from sam_train.errors import FileError, Problem

PLAIN = Tones()
_DARK = 32  # colors of 16 bits whose high bytes stay below hold 13 bits at most, and would be nearly black


def read_image(
    path: Path, content: bytes | None = None, tones: Tones = PLAIN, page: int | None = None
) -> UInt8[Tensor, "3 h w"]:
    """Read an image of any supported kind as 8-bit red, green, blue, in channels-last memory.

    Args:
        path: The file.
        content: Its bytes, where they are known and the path is but their name in messages.
        tones: How its numbers become 8 bits.
        page: Number of the page of a TIFF file, from 0; None for the only one.

    Raises:
        FileError: If the file is no image, is damaged or has several pages or bands of unclear meaning, or if its
            colors have 16 bits of which the higher ones are not used.
    """
    return to_rgb(decode(path, content, tones != PLAIN, page), path, tones)


def to_rgb(raster: Raster, path: Path, tones: Tones = PLAIN) -> UInt8[Tensor, "3 h w"]:
    """Return what :func:`read_image` makes of the pixels of a file.

    Raises:
        FileError: If there is hardly anything to see in 8 bits, or there are not the bands that are asked for.
    """
    pixels = _plain(raster, path) if tones == PLAIN else _by_rule(raster, path, tones)
    if pixels.shape[2] != 3 or not pixels.flags.c_contiguous:  # four times as fast as a copy of the slice
        pixels = np.stack([pixels[..., channel % pixels.shape[2]] for channel in range(3)], axis=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def stored_numbers(
    path: Path, content: bytes | None, tones: Tones, page: int | None = None
) -> list[Shaped[np.ndarray, "n"]]:
    """Return the finite numbers of an image, of each group of bands that a rule stretches together.

    Raises:
        FileError: See :func:`read_image`.
    """
    groups = tones.groups(_shown(decode(path, content, True, page), path, tones))
    return [group[np.isfinite(group)] if group.dtype.kind == "f" else group.ravel() for group in groups]


def named_with(fingerprint: str, tones: Tones) -> str:
    """Return the fingerprint of an image that is shown by a rule."""
    return fingerprint if tones == PLAIN else f"{fingerprint} {tones}"


def _by_rule(raster: Raster, path: Path, tones: Tones) -> UInt8[np.ndarray, "h w c"]:
    shown = _shown(raster, path, tones)
    return np.concatenate(
        [_group(group, raster, path, tones, number) for number, group in enumerate(tones.groups(shown))], axis=2
    )


def _shown(raster: Raster, path: Path, tones: Tones) -> Shaped[np.ndarray, "h w c"]:
    """Return the bands that are shown, as they are stored."""
    if raster.palette is not None:
        return tones.chosen(_colors(raster), path)
    if tones.channels:
        return tones.chosen(raster.bands, path)
    if raster.mode not in ("L", "RGB"):
        return _plain(raster, path)
    if raster.mode == "L" and raster.channels.shape[2] > 1:
        found = f"has {raster.channels.shape[2]} bands, and the file does not say what they show"
        raise FileError(
            Problem(
                "unclear bands",
                path,
                found,
                "say which to show, such as data.channels=[3,2,1], or channels=[3,2,1] beside images=",
            )
        )
    return raster.channels[..., :3]


def _group(
    pixels: Shaped[np.ndarray, "h w c"], raster: Raster, path: Path, tones: Tones, number: int
) -> UInt8[np.ndarray, "h w c"]:
    """Return bands that are stretched together, the group of this number."""
    window = tones.window(number)
    if window is None and tones.percentiles is None:
        return _eight_bits(pixels, raster, path)
    return stretched(pixels, window) if window else _by_percentiles(pixels, path, tones.percentiles or PERCENTILES)


def _plain(raster: Raster, path: Path) -> UInt8[np.ndarray, "h w c"]:
    pixels = raster.channels
    if raster.palette is not None:
        pixels = _colors(raster)
    elif raster.mode not in ("L", "RGB"):
        pixels = np.array(Image.frombytes(raster.mode, pixels.shape[1::-1], pixels.tobytes()).convert("RGB"))
    else:
        pixels = _eight_bits(pixels, raster, path)
    if raster.high_bytes and pixels.max() < _DARK:
        found = (
            f"no channel goes beyond {int(pixels.max()) * 256 + 255} of 65535: 8 bits would hold hardly anything of it"
        )
        raise FileError(Problem("dark 16-bit color", path, found, "set data.percentiles=[0.5,99.5] or data.window"))
    return pixels


def _colors(raster: Raster) -> UInt8[np.ndarray, "h w 3"]:
    assert raster.palette is not None
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(raster.palette)] = raster.palette
    return colors[raster.channels[..., 0].astype(np.uint8)]


def _eight_bits(pixels: Shaped[np.ndarray, "h w c"], raster: Raster, path: Path) -> UInt8[np.ndarray, "h w c"]:
    if pixels.dtype == np.int8:
        return (pixels.astype(np.int16) + 128).astype(np.uint8)
    if pixels.dtype not in (np.uint8, np.bool_):
        return _by_percentiles(pixels, path, PERCENTILES)
    if raster.white != 255:
        pixels = np.rint(pixels * (255 / raster.white)).astype(np.uint8)
    return 255 - pixels if raster.white_is_zero else pixels


def _by_percentiles(
    pixels: Shaped[np.ndarray, "h w c"], path: Path, percentiles: tuple[float, float]
) -> UInt8[np.ndarray, "h w c"]:
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not finite.size:
        raise FileError(Problem("unreadable file", path, "no pixel is a finite number", REWRITE))
    return stretched(pixels, ends_of(finite, percentiles))
