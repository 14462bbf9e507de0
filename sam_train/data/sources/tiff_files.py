"""Reads TIFF files: one image of any number type, bands and compression, as it is stored."""

from __future__ import annotations

import logging
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from PIL import Image

from sam_train.data.sources.raster import Mode, Raster, upright
from sam_train.errors import FileError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tifffile import TiffFile, TiffPage

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF files begin."""

# Values of the tags PhotometricInterpretation, Compression, ExtraSamples and Orientation (TIFF 6.0 and its supplements)
_WHITE_IS_ZERO = 0
_MODES: dict[int, tuple[Mode, int]] = {
    _WHITE_IS_ZERO: ("L", 1),
    1: ("L", 1),
    2: ("RGB", 3),
    3: ("P", 1),
    5: ("CMYK", 4),
    6: ("YCbCr", 3),
    8: ("LAB", 3),
}
"""What the channels mean, and how many there are beside transparency and others."""
_JPEG = (6, 7, 33007, 34892)
_LOSSY = (*_JPEG, 33004, 34927, 50001)  # and lossy JPEG 2000, WebP
_PREMULTIPLIED, _ALPHAS = 1, (1, 2)
_ORIENTATION = 274


def count_pages(path: Path) -> int:
    """Return how many pages a TIFF file has, or planes of a stack that share one page; 1 of other files.

    Raises:
        FileError: If it is damaged.
    """
    import tifffile

    try:
        with path.open("rb") as file:
            if file.read(4) not in MAGIC:
                return 1
            file.seek(0)
            with tifffile.TiffFile(file) as found:
                return len(found.series[0].pages)
    except Exception as error:  # tifffile raises anything on damaged bytes
        raise FileError(Problem("unreadable file", path, f"{error}", "copy it anew")) from error


def write_page(raster: Raster) -> bytes | None:
    """Return a TIFF file of gray numbers or colors as they are stored; None of other pixels."""
    import tifffile

    if raster.mode not in ("L", "RGB") or raster.white_is_zero or raster.has_alpha:
        return None
    file = BytesIO()
    tifffile.imwrite(file, raster.pixels, photometric="rgb" if raster.mode == "RGB" else "minisblack", metadata=None)
    return file.getvalue()


def read_tiff(path: Path, content: BinaryIO, all_bits: bool = False, number: int | None = None) -> Raster:
    """Read the only page of a TIFF file, or the one of a number; copies in lower resolution do not count.

    Args:
        path: Name of the file in messages.
        content: The open file.
        all_bits: Whether all bands are wanted as they are stored, whatever they mean.
        number: Of the page, from 0; None for the only one.

    Raises:
        FileError: If there are several pages, or else bands of which the file does not say what they mean.
        Exception: Whatever a decoder raises on damaged bytes.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # damage is reported by FileError
    with tifffile.TiffFile(content) as file:
        page = _only_page(file, path) if number is None else cast("TiffPage", file.pages[0])
        mode, has_alpha, extra = _stored(page, path) if all_bits else _meaning(page, path)
        _refuse_huge(page, path)
        only = number is None
        pixels = page.asarray(maxworkers=1) if only else file.asarray(key=number, series=0, maxworkers=1)
        tag, colors = page.tags.get(_ORIENTATION), page.colormap
    orientation = int(tag.value) if tag is not None else 1
    if page.axes.startswith("S"):
        pixels = np.moveaxis(pixels, 0, -1)
    if mode == "YCbCr" and page.compression in _JPEG:
        mode = "RGB"  # as it was decoded
    high_bytes = pixels.dtype == np.uint16 and mode not in ("L", "P") and not all_bits
    if high_bytes:
        pixels = (pixels >> 8).astype(np.uint8)
    if has_alpha and tuple(page.extrasamples)[:1] == (_PREMULTIPLIED,) and mode == "RGB" and pixels.dtype == np.uint8:
        pixels = np.array(Image.frombytes("RGBA", pixels.shape[1::-1], pixels.tobytes(), "raw", "RGBa"))
    elif extra and not has_alpha and not all_bits:
        pixels = pixels[..., :-extra]
    return Raster(
        np.ascontiguousarray(upright(pixels, orientation)),
        mode,
        palette=(colors >> 8).astype(np.uint8).T if colors is not None else None,
        has_alpha=has_alpha,
        white=(1 << page.bitspersample) - 1 if page.bitspersample < 8 else 255,
        white_is_zero=page.photometric == _WHITE_IS_ZERO,
        is_lossy=page.compression in _LOSSY,
        high_bytes=high_bytes,
        orientation=orientation,
    )


def _only_page(file: TiffFile, path: Path) -> TiffPage:
    pages = cast("Iterable[TiffPage]", file.pages)
    full = list(islice((page for page in pages if not (page.is_reduced or page.is_mask)), 2))
    stack = (file.imagej_metadata or {}).get("images", 1)  # planes that have no page of their own
    remedy = "save each page as its own file, or set data.pages=true if each is an image"
    if len(full) != 1 or stack > 1 or full[0].imagedepth > 1:
        number = max(len(file.pages), stack, *(page.imagedepth for page in full))
        found = f"has {number} pages" if full else f"has {number} pages, all of them previews"
        raise FileError(Problem("several pages", path, found, remedy))
    return full[0]


def _stored(page: TiffPage, path: Path) -> tuple[Mode, bool, int]:
    """Return the same where bands are wanted whatever they mean: colors if the file says so, else a band each."""
    if page.dtype is None or page.dtype.kind not in "biuf":
        found = f"holds {page.dtype or f'{page.bitspersample} bits'}, which are no numbers"
        raise FileError(Problem("unclear bands", path, found, "save it with whole or floating-point numbers"))
    mode, number = _MODES.get(page.photometric, ("L", 0))
    extra, kinds = page.samplesperpixel - number, tuple(page.extrasamples)
    return mode, extra == 1 and bool(kinds) and kinds[0] in _ALPHAS, max(extra, 0)


def _meaning(page: TiffPage, path: Path) -> tuple[Mode, bool, int]:
    """Return what the channels mean, whether the last is transparency, and how many there are beside the colors'."""
    mode, number = _MODES.get(page.photometric, ("L", 0))
    extra, kinds = page.samplesperpixel - number, tuple(page.extrasamples)
    has_alpha = extra == 1 and (kinds[0] in _ALPHAS if kinds else mode == "RGB")
    # Of colors the file says which channels they are; of gray and something else it does not.
    is_clear = extra == 0 or has_alpha or (extra > 0 and mode not in ("L", "P"))
    if not number or not is_clear or page.dtype is None or page.dtype.kind not in "biuf":
        bands = "1 band" if page.samplesperpixel == 1 else f"{page.samplesperpixel} bands"
        dtype = page.dtype or f"{page.bitspersample} bits"
        called = getattr(page.photometric, "name", page.photometric)
        found = f"{bands} of {dtype}, 1 page, which the file calls {called}: what they show is unclear"
        remedy = (
            "save one band, or red, green and blue, as a file of its own; or name bands: data.channels=[3,2,1], or "
            "channels=[3,2,1] beside images="
        )
        raise FileError(Problem("unclear bands", path, found, remedy))
    return mode, has_alpha, extra


def _refuse_huge(page: TiffPage, path: Path) -> None:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or np.inf)  # as Pillow's own for other formats
    if page.imagelength * page.imagewidth > limit:
        found = f"{page.imagelength} x {page.imagewidth} pixels (height x width), more than {limit}"
        raise FileError(Problem("too large", path, found, "cut image and mask into tiles"))
