"""Decodes image files of any format, or names what is wrong with them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam_train.data.sources import tiff_files
from sam_train.data.sources.raster import Mode, Raster, upright
from sam_train.errors import FileError, Problem

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
REWRITE = "replace it, or save it anew as PNG"
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # no others: Pillow would run programs for some
_MODES: dict[str, Mode] = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "I": "L",
    "I;16": "L",
    "I;16B": "L",
    "F": "L",
    "P": "P",
    "RGB": "RGB",
    "RGBA": "RGB",
    "CMYK": "CMYK",
}
"""By Pillow's mode of an image, what its channels mean whatever their depth and transparency."""
_ORIENTATION = 0x0112


def decode(path: Path, content: bytes | None = None, all_bits: bool = False, page: int | None = None) -> Raster:
    """Read the pixels of an image or a mask, whatever its suffix says.

    Args:
        path: The file.
        content: Its bytes, where they are known and the path is but their name in messages.
        all_bits: Whether all bands are wanted as they are stored, be it unclear what they mean; otherwise the high
            bytes of colors of 16 bits are.
        page: Number of the page of a TIFF file, from 0; None for the only one.

    Raises:
        FileError: If there is no such file, or if it is empty, damaged or too large, or has several pages.
    """
    if content is None and not path.is_file():  # opening a pipe would wait for ever
        raise FileError(Problem("not a file", path, "a broken link, a pipe or gone", "put the file itself there"))
    if (path.stat().st_size if content is None else len(content)) == 0:
        raise FileError(Problem("empty file", path, "has no bytes", "copy it anew"))
    try:
        with path.open("rb") if content is None else BytesIO(content) as file:
            is_tiff = file.read(4) in tiff_files.MAGIC
            file.seek(0)
            return tiff_files.read_tiff(path, file, all_bits, page) if is_tiff else _read(file, path, all_bits)
    except FileError:
        raise
    except Image.DecompressionBombError as error:
        raise FileError(Problem("too large", path, str(error), "cut image and mask into tiles")) from error
    except UnidentifiedImageError as error:
        expected = "none of PNG, JPEG, TIFF, BMP and WebP that can be read"
        raise FileError(Problem("unreadable file", path, expected, REWRITE)) from error
    except Exception as error:  # decoders raise anything on damaged bytes
        raise FileError(Problem("unreadable file", path, f"{error}", REWRITE)) from error


def _read(file: BinaryIO, path: Path, all_bits: bool) -> Raster:
    image = Image.open(file, formats=_FORMATS)
    # An MPO is a photograph whose further pages are previews of the first.
    pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if pages > 1:
        raise FileError(Problem("several pages", path, f"has {pages} pages", "save each page as its own file"))
    is_16_bit = any(";16" in str(tile[3]) for tile in image.tile)  # not known any more after loading
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)
    palette = image.getpalette("RGB") if image.mode == "P" else None
    ImageOps.exif_transpose(image, in_place=True)
    pixels = np.array(image)
    if all_bits and is_16_bit and pixels.dtype == np.uint8:  # Pillow has their high bytes alone
        import imagecodecs

        file.seek(0)
        pixels = upright(imagecodecs.png_decode(file.read()), orientation)
    return Raster(
        pixels,
        _MODES[image.mode],
        palette=None if palette is None else np.array(palette, np.uint8).reshape(-1, 3),
        has_alpha=image.mode in ("LA", "RGBA"),
        white=1 if image.mode == "1" else 255,
        is_lossy=image.format in ("JPEG", "MPO") or (image.format == "WEBP" and _webp_is_lossy(file)),
        high_bytes=is_16_bit and pixels.dtype == np.uint8,
        orientation=orientation,
    )


def _webp_is_lossy(file: BinaryIO) -> bool:
    """Tell whether a WebP file is lossy, from the kind of its first chunk of pixels (RFC 9649, section 2.5)."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head[:4] in (b"VP8 ", b"VP8L"):
            return head[:4] == b"VP8 "
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, 1)
    return False
