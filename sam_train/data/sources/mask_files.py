"""Masks from files: the number of each pixel.

A label image gives each pixel the number of its object; palette images give their indices, TIFF its stored values
whether the file calls 0 black or white. Only of a palette of two grays the brighter one counts as the object, whichever
index it has.

Where a mask is a region rather than labels, it may be soft: resized with smoothing, or saved as JPEG. Pixels at least
half as bright as the brightest one then become 255, all others 0, in every format alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped, UInt8
from PIL import Image

from sam_train.data.sources.color_tables import ColorTable
from sam_train.data.sources.decoding import decode
from sam_train.data.sources.image_files import to_rgb
from sam_train.data.sources.mask_pieces import Counted, count_numbers, first_pixels
from sam_train.data.sources.raster import Raster
from sam_train.errors import FileError, Problem

_FAINTEST = 64  # of 255: below, JPEG leaves little of an object's outline
_MOST_IN_BLOCKS, _LEAST_BETWEEN = 0.75, 0.06


class Numbers(NamedTuple):
    """The numbers of a mask file, settled by background and ignored numbers.

    Attributes:
        pixels: The number of each pixel, 0 for background.
        ignored: Pixels that are neither object nor background; None where the settings name no such number.
        orientation: The file's EXIF orientation, 1 where there is none.
    """

    pixels: Int[np.ndarray, "h w"]
    ignored: Bool[np.ndarray, "h w"] | None
    orientation: int


def read_numbers(
    path: Path,
    is_region: bool,
    background: int = 0,
    ignore: Sequence[int] = (),
    content: bytes | None = None,
    page: int | None = None,
    colors: ColorTable | None = None,
) -> Numbers:
    """Read a mask.

    Args:
        path: The file.
        is_region: Whether the pixels say whether there is an object rather than which; then the mask may be soft.
        background: The number that stands for background. It changes places with 0, or, where it is negative, all
            numbers go up.
        ignore: Numbers of pixels that are neither object nor background; they become background, too.
        content: The file's bytes, where they are known and the path is but their name in messages.
        page: Number of the page of a TIFF file, from 0; None for the only one.
        colors: Which color is which number; None for masks that hold numbers.

    Raises:
        FileError: If the file cannot be read or its pixels are not the numbers of objects.
    """
    raster = decode(path, content, page=page)
    if colors is not None:
        pixels = colors.numbers(_colors(raster, path), path)
    elif raster.is_lossy:
        pixels = _cut_at_half(_lossy_gray(raster, path, is_region, ignore), path)
    else:
        pixels = _plane(raster, path)
        is_whole = _are_whole(pixels, path, may_be_soft=is_region)
        if is_region and not (is_whole and (_are_two(pixels) or not num_soft(count_numbers(_integers(pixels))))):
            pixels = _cut_at_half(pixels, path)
    ignored = np.isin(pixels, list(ignore)) if ignore else None
    if ignored is not None or background:
        pixels = _settled(pixels, background, ignored)
    if pixels.dtype.kind in "fiu" and (pixels.min() < 0 or pixels.max() > np.iinfo(np.int32).max):
        found = f"holds {pixels.min():g} to {pixels.max():g}, where 0 is background and objects count from 1"
        remedy = "number the objects 1, 2, 3 ..., or set data.background=... or data.ignore=[...] for what is none"
        raise FileError(Problem("labels out of range", path, found, remedy))
    return Numbers(pixels.astype(np.int32), ignored, raster.orientation)


def _are_two(pixels: Shaped[np.ndarray, "h w"]) -> bool:
    """Tell whether a mask has two numbers at most: hard edges, found several times as fast as by counting."""
    return bool(((pixels == pixels.min()) | (pixels == pixels.max())).all())


def num_soft(mask: Counted) -> int:
    """Return how many numbers a mask has if it is a soft region rather than labels, else 0.

    In a soft region the two most frequent numbers are the region and the rest. The others lie along edges: few are in
    blocks of 2 x 2 of one number, some are between a smaller number on one side and a larger one on another, and each
    is there in several places or in specks. (So are 330 of 332 disks of 3 to 160 pixels in diameter, resized with
    smoothing, blurred, or saved as JPEG or WebP of quality 30 to 100; so is none of 194 label images of real cells,
    axons, buildings and balloons, nor of 240 of tiny touching disks, and only rings of one pixel among drawn ones.)
    """
    numbers, areas = mask.numbers, mask.areas
    if len(numbers) < 4:
        return 0
    one, other = numbers[areas.argsort()[-2:]]
    others = (mask.pixels != one) & (mask.pixels != other)
    num_pixels, num_numbers = int(others.sum()), len(numbers) - 2
    if (_in_blocks(mask.pixels) & others).sum() > _MOST_IN_BLOCKS * num_pixels:  # as nearly always
        return 0
    pixels = mask.pixels.astype(np.int64)
    padded = np.pad(pixels, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    is_between = (np.minimum.reduce(beside) < pixels) & (pixels < np.maximum.reduce(beside))
    num_places = int((first_pixels(pixels) & others).sum())
    is_spread = num_places >= 2 * num_numbers or num_pixels < 2 * num_places
    return len(numbers) if is_spread and (is_between & others).sum() > _LEAST_BETWEEN * num_pixels else 0


def _in_blocks(pixels: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return which pixels are in a block of 2 x 2 of one number."""
    corner, right, below = pixels[:-1, :-1], pixels[:-1, 1:], pixels[1:, :-1]
    starts_block = (corner == right) & (corner == below) & (corner == pixels[1:, 1:])
    in_block = np.zeros(pixels.shape, bool)
    for rows, columns in product((slice(-1), slice(1, None)), repeat=2):
        in_block[rows, columns] |= starts_block
    return in_block


def _are_whole(pixels: Shaped[np.ndarray, "h w"], path: Path, may_be_soft: bool) -> bool:
    if pixels.dtype.kind != "f":
        return True
    is_whole = np.isfinite(pixels) & (pixels == np.rint(pixels))
    if not is_whole.all() and not (may_be_soft and np.isfinite(pixels).all()):
        found = f"holds {pixels[~is_whole][0]:g}, where each pixel should be the whole number of its object"
        raise FileError(Problem("non-integer labels", path, found, "save the labels as whole numbers"))
    return bool(is_whole.all())


def _integers(pixels: Shaped[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    return pixels.astype(np.int64) if pixels.dtype.kind == "f" else pixels


def _cut_at_half(pixels: Shaped[np.ndarray, "h w"], path: Path) -> UInt8[np.ndarray, "h w"]:
    """Return 255 where a soft mask is at least half as bright as its brightest pixel, else 0."""
    top = pixels.max()
    if pixels.dtype == np.uint8 and 0 < top < _FAINTEST:
        found = f"is soft, and its brightest pixel has {top} of 255, so that little is left of any outline"
        raise FileError(Problem("faint mask", path, found, "save it anew as PNG or TIFF without loss or smoothing"))
    return ((pixels >= top / 2) & (top > 0)).view(np.uint8) * np.uint8(255)


def _lossy_gray(raster: Raster, path: Path, is_region: bool, ignore: Sequence[int]) -> UInt8[np.ndarray, "h w"]:
    if not is_region:
        remedy = "save it anew as PNG or TIFF without loss, or set data.objects=binary"
        raise FileError(Problem("lossy labels", path, "JPEG changes the numbers of objects", remedy))
    if ignore:
        found, remedy = "JPEG changes the numbers that data.ignore names", "save it anew as PNG or TIFF without loss"
        raise FileError(Problem("lossy labels", path, found, remedy))
    pixels = raster.channels
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    return np.array(Image.frombytes(raster.mode, pixels.shape[1::-1], pixels.tobytes()).convert("L"))


def _colors(raster: Raster, path: Path) -> UInt8[np.ndarray, "h w 3"]:
    if raster.is_lossy:
        found = "JPEG changes the colors that data.colors names"
        raise FileError(Problem("lossy labels", path, found, "save it anew as PNG or TIFF without loss"))
    return to_rgb(raster, path).permute(1, 2, 0).numpy()


def _plane(raster: Raster, path: Path) -> Shaped[np.ndarray, "h w"]:
    """Return the plane that all channels of a mask agree on."""
    pixels = raster.channels
    if raster.high_bytes:
        found = "has several channels of 16 bits"
        raise FileError(Problem("16-bit color mask", path, found, "save one channel, gray, of 16 bits"))
    if raster.has_alpha and (alpha := raster.pixels[..., -1]).min() < np.iinfo(alpha.dtype).max:
        remedy = "save the mask without transparency"
        raise FileError(Problem("transparent mask", path, "it is unclear what transparency means", remedy))
    if (pixels != pixels[..., :1]).any():
        found = f"its {pixels.shape[-1]} channels differ, where a mask has one number a pixel"
        remedy = "save it as a label image, one number an object, or name its colors: data.colors=<table>"
        raise FileError(Problem("color mask", path, found, remedy))
    return pixels[..., 0] if raster.palette is None else _by_gray(pixels[..., 0].astype(np.uint8), raster.palette)


def _by_gray(indices: UInt8[np.ndarray, "h w"], palette: UInt8[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "h w"]:
    """Return 1 for the brighter gray of a palette of two grays and 0 for the other, if the brighter comes first."""
    is_gray = (palette == palette[:, :1]).all()
    grays = np.zeros(256, np.uint8)
    grays[: len(palette)] = palette[:, 0]
    if not is_gray or len(np.unique(palette)) != 2 or palette[0, 0] < palette[:, 0].max():
        return indices
    return (grays == palette[0, 0]).astype(np.uint8)[indices]


def _settled(
    pixels: Shaped[np.ndarray, "h w"], background: int, ignored: Bool[np.ndarray, "h w"] | None
) -> Int[np.ndarray, "h w"]:
    """Return the numbers with 0 as the background, and where pixels are ignored."""
    wide = pixels.astype(np.int64)
    if ignored is not None:
        wide[ignored] = background
    if background < 0:
        return wide - background
    return np.where(wide == background, 0, np.where(wide == 0, background, wide)) if background else wide
