"""Images and masks from files: what a stored pixel means.

Images become 8-bit red, green, blue. Transparency is ignored and the stored colours count, as in the tools the tuned
model goes on to. What is stored with more than 8 bits, integer or floating point, is stretched image by image: the
0.5th percentile of its finite pixels becomes 0 and the 99.5th 255, as MedSAM prepares its data (Ma et al., "Segment
Anything in Medical Images", 2024, "Data curation and pre-processing"). Nothing of other images enters, so a held-out
image looks the same whatever it is evaluated with. (16-bit *colour* is the exception: Pillow keeps its high bytes, and
where these are next to nothing the image is refused.)

Images and masks alike are turned upright as their EXIF orientation says: people draw masks on the upright image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sam_train.errors import FileError, Problem

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # no others: Pillow would run programs for some
_DEEP_MODES = ("I", "F")  # I, I;16, I;16B and F
_PERCENTILES = (0.5, 99.5)
_DARK = 32  # colour of 16 bits whose high bytes stay below holds 13 bits at most, and would be nearly black
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_IS_16_BIT = "16 bits a channel in the file"
_REWRITE = "replace it, or save it anew as PNG"


def read_image(path: Path) -> UInt8[Tensor, "3 h w"]:
    """An image of any supported kind as 8-bit red, green, blue, in channels-last memory.

    Raises:
        InputError: If the file is no image, is damaged or has several pages, or if its colours have 16 bits of which
            the higher ones are not used.
    """
    image = _decode(path)
    if image.mode.startswith(_DEEP_MODES):
        image = Image.fromarray(_to_8_bit(np.asarray(image), path))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    pixels = np.array(image.convert("RGB"))
    if image.info.get(_IS_16_BIT) and pixels.max() < _DARK:
        found = (
            f"no channel goes beyond {int(pixels.max()) * 256 + 255} of 65535: 8 bits would hold hardly anything of it"
        )
        raise FileError(Problem("dark 16-bit colour", path, found, "save it with 8 bits and as bright as wanted"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_labels(path: Path) -> Int[np.ndarray, "h w"]:
    """A label image: each pixel the number of its object, 0 for background; palette images give their indices.

    Raises:
        InputError: If the file cannot be read or its pixels are not the numbers of objects.
    """
    image = _decode(path)
    if _is_lossy(image):
        remedy = "save it anew as PNG or TIFF without loss, or set data.objects=binary"
        raise FileError(Problem("lossy labels", path, "JPEG changes the numbers of objects", remedy))
    return _labels(image, path)


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """One binary mask: the pixels that are not zero, or in JPEG, which smears edges, those of at least half white.

    Raises:
        InputError: If the file cannot be read or is not one plane of whole numbers.
    """
    image = _decode(path)
    if _is_lossy(image):
        return np.asarray(image.convert("L")) >= 128
    return _labels(image, path) != 0


def _is_lossy(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") or image.info.get("compression") in _LOSSY_TIFF


def _decode(path: Path) -> Image.Image:
    """The whole image in memory, upright."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise FileError(Problem("not a file", path, "a broken link, a pipe or gone", "put the file itself there"))
    if path.stat().st_size == 0:
        raise FileError(Problem("empty file", path, "has no bytes", "copy it anew"))
    try:
        with path.open("rb") as file:
            image = Image.open(file, formats=_FORMATS)
            # An MPO is a photograph whose further pages are previews of the first.
            pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if pages == 1:
                is_16_bit = any(";16" in str(tile[3]) for tile in image.tile)  # told no more once it is loaded
                image.load()
                image.info[_IS_16_BIT] = is_16_bit
                ImageOps.exif_transpose(image, in_place=True)
    except Image.DecompressionBombError as error:
        raise FileError(Problem("too large", path, str(error), "cut image and mask into tiles")) from error
    except UnidentifiedImageError as error:
        expected = "none of PNG, JPEG, TIFF, BMP and WebP that can be read"
        raise FileError(Problem("unreadable file", path, expected, _REWRITE)) from error
    except Exception as error:  # decoders raise anything on damaged bytes
        raise FileError(Problem("unreadable file", path, f"{error}", _REWRITE)) from error
    if pages > 1:
        raise FileError(Problem("several pages", path, f"has {pages} pages", "save each page as its own file"))
    return image


def _labels(image: Image.Image, path: Path) -> Int[np.ndarray, "h w"]:
    pixels = np.asarray(image)
    if pixels.ndim == 3:
        if image.info.get(_IS_16_BIT):  # of which only the high bytes were read
            found = "has several channels of 16 bits"
            raise FileError(Problem("16-bit colour mask", path, found, "save one channel, grey, of 16 bits"))
        pixels = _single_plane(pixels, image.getbands(), path)
    if pixels.dtype.kind == "f" and not (whole := np.isfinite(pixels) & (pixels == np.rint(pixels))).all():
        found = f"holds {pixels[~whole][0]:g}, where each pixel should be the whole number of its object"
        raise FileError(Problem("non-integer labels", path, found, "save the labels as whole numbers"))
    if pixels.dtype.kind in "fi" and (pixels.min() < 0 or pixels.max() > np.iinfo(np.int32).max):
        found = f"holds {pixels.min():g} to {pixels.max():g}, where 0 is background and objects count from 1"
        raise FileError(Problem("labels out of range", path, found, "number the objects 1, 2, 3 ..."))
    return pixels.astype(np.int32)


def _single_plane(pixels: UInt8[np.ndarray, "h w c"], bands: tuple[str, ...], path: Path) -> UInt8[np.ndarray, "h w"]:
    """The plane that all channels of a mask agree on."""
    if bands[-1] == "A":
        if pixels[..., -1].min() < 255:
            remedy = "save the mask without transparency"
            raise FileError(Problem("transparent mask", path, "it is unclear what transparency means", remedy))
        pixels = pixels[..., :-1]
    if (pixels != pixels[..., :1]).any():
        found = f"its {pixels.shape[-1]} channels differ, where a mask has one number a pixel"
        raise FileError(Problem("colour mask", path, found, "save it as a label image, one number an object"))
    return pixels[..., 0]


def _to_8_bit(pixels: np.ndarray, path: Path) -> UInt8[np.ndarray, "h w"]:
    if pixels.dtype == np.uint16:  # each of its numbers once, weighted by how often it is there
        counts = np.bincount(pixels.ravel(), minlength=1 << 16)
        return _stretch(np.arange(1 << 16), *_bounds(counts))[pixels]
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    if not finite.size:
        raise FileError(Problem("unreadable file", path, "no pixel is a finite number", _REWRITE))
    low, high = np.percentile(finite, _PERCENTILES)
    if low == high:
        low, high = finite.min(), finite.max()
    return _stretch(pixels, low, high)


def _bounds(counts: Int[np.ndarray, "v"]) -> tuple[float, float]:
    """What becomes 0 and 255 where the number v is there ``counts[v]`` times; as ``np.percentile``."""
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
