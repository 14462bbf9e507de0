"""Pixels of a file as they are stored, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8

Mode = Literal["L", "P", "RGB", "CMYK", "YCbCr", "LAB"]
"""What the channels of a pixel mean, in Pillow's words: gray, index of a palette, or colors."""


@dataclass(frozen=True)
class Raster:
    """Pixels of a file as they are stored, but upright: turned as the EXIF orientation says.

    Attributes:
        pixels: One number a pixel, or several in a last axis, of which the last is transparency if ``has_alpha``.
        mode: What these numbers mean.
        palette: Red, green and blue of each number, where ``mode`` is ``P``; larger numbers are black.
        has_alpha: Whether the last channel is transparency.
        white: The number that stands for white in a gray image of 8 bits or fewer.
        white_is_zero: Whether small numbers are bright.
        is_lossy: Whether the compression changed numbers, as JPEG does.
        high_bytes: Whether pixels are the higher bytes of colors of 16 bits.
        orientation: EXIF orientation of the file, 1 where there is none.
    """

    pixels: Shaped[np.ndarray, "h w"] | Shaped[np.ndarray, "h w c"]
    mode: Mode
    palette: UInt8[np.ndarray, "n 3"] | None = None
    has_alpha: bool = False
    white: int = 255
    white_is_zero: bool = False
    is_lossy: bool = False
    high_bytes: bool = False
    orientation: int = 1

    @property
    def bands(self) -> Shaped[np.ndarray, "h w c"]:
        """Pixels with an axis of bands, whatever they mean."""
        return self.pixels if self.pixels.ndim == 3 else self.pixels[..., None]

    @property
    def channels(self) -> Shaped[np.ndarray, "h w c"]:
        """Pixels with an axis of channels, without transparency."""
        return self.bands[..., :-1] if self.has_alpha else self.bands


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels turned as an EXIF orientation (TIFF 6.0, tag 274) says; unknown values turn nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
