"""Where an image lies on the earth, read from its TIFF tags and written to others (OGC GeoTIFF 1.1, section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from sam_train.data.sources.tiff_files import MAGIC

_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, _DOUBLES, _TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
_SHORT, _ASCII, _DOUBLE = 3, 2, 12  # kinds of value of TIFF tags
_KINDS = dict.fromkeys((_SCALE, _TIEPOINTS, _TRANSFORMATION, _DOUBLES), _DOUBLE) | {_KEYS: _SHORT, _TEXTS: _ASCII}
_PROJECTED, _GEOGRAPHIC = 3072, 2048  # keys of the coordinate system
_RASTER_TYPE, _POINTS = 1025, 2  # key of what a pixel is, and its value where a pixel is a point, no area


@dataclass(frozen=True)
class Georeference:
    """A TIFF file's tags about its place.

    Attributes:
        tags: By number.
    """

    tags: Mapping[int, Any]

    @property
    def epsg(self) -> int | None:
        """Number of the coordinate system in the EPSG registry, where the file names it so."""
        number = self._key(_PROJECTED) or self._key(_GEOGRAPHIC)
        return int(number) if number and number < 32767 else None

    def place(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Return x, y on the earth of points x, y in the image, whose pixels begin at whole numbers."""
        if self._key(_RASTER_TYPE) == _POINTS:  # whole numbers are the middles of pixels
            points = points - 0.5
        if _TRANSFORMATION in self.tags:
            matrix = np.array(self.tags[_TRANSFORMATION], float).reshape(4, 4)
            return points @ matrix[:2, :2].T + matrix[:2, 3]
        scale = np.array(self.tags[_SCALE][:2], float) * (1, -1)
        i, j, _, x, y, _ = self.tags[_TIEPOINTS][:6]
        return (points - (i, j)) * scale + (x, y)

    def _key(self, number: int) -> int | None:
        """Return the value of a key, if it is a number."""
        keys = list(self.tags.get(_KEYS, ()))
        starts = range(4, len(keys) - 3, 4)
        return next((keys[at + 3] for at in starts if keys[at] == number and keys[at + 1] == 0), None)


def read_georeference(path: Path) -> Georeference | None:
    """Return where a TIFF file lies; None if it does not say so, or is none."""
    import tifffile

    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    with path.open("rb") as stream:
        if stream.read(4) not in MAGIC:  # images are known by their content, whatever they are called
            return None
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags  # pyright: ignore[reportAttributeAccessIssue]
        found = {code: tags[code].value for code in _KINDS if code in tags}
    numbers = {code: np.size(found.get(code, ())) for code in (_TRANSFORMATION, _SCALE, _TIEPOINTS)}
    has_place = numbers[_TRANSFORMATION] == 16 or (numbers[_SCALE] >= 2 and numbers[_TIEPOINTS] >= 6)
    return Georeference(found) if has_place else None


def write_label_tiff(path: Path, labels: Integer[np.ndarray, "h w"], place: Georeference | None) -> None:
    """Write a label image as a TIFF that lies where its source does."""
    import tifffile

    tags: Sequence[Any] = ()
    if place is not None:
        own = {**place.tags, **{code: _ascii(place.tags[code]) for code in (_TEXTS,) if code in place.tags}}
        tags = [(code, _KINDS[code], len(value), value, True) for code, value in own.items()]
    tifffile.imwrite(path, labels, photometric="minisblack", compression="zlib", extratags=tags)


def _ascii(text: str) -> bytes:
    """Return a text as TIFF files hold it; what is no ASCII becomes question marks of as many bytes."""
    return text.encode("ascii", "replace") + b"\0"
