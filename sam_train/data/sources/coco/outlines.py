"""Outlines of many objects in a few arrays, and the masks they stand for.

Polygons are drawn by pycocotools. It trusts what it is given and writes beyond its memory where that makes no sense, so
that points are looked at first, and run lengths are never given to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sam_train.data.sources.packed_texts import PackedTexts

_DIGITS = 6  # of 5 bits: as many as a run length within any image has


class Kind(IntEnum):
    """How an outline is written."""

    NOTHING = 0
    POLYGONS = 1
    RUN_LENGTHS = 2  # as numbers
    TEXT = 3  # run lengths as COCO's compressed text
    UNKNOWN = 4


class OutlineError(Exception):
    """An outline that gives no mask.

    Args:
        kind: A few words, the same for all outlines of the kind.
        found: What is there.
        remedy: What to do about it.
    """

    def __init__(self, kind: str, found: str, remedy: str) -> None:
        super().__init__(kind, found, remedy)
        self.kind, self.found, self.remedy = kind, found, remedy


@dataclass(frozen=True)
class Outlines:
    """Outlines of A objects.

    Attributes:
        kind: Of each object, the :class:`Kind`.
        rings: Where the rings of each object begin: polygons, or one list of run lengths.
        places: Where the numbers of each ring begin.
        numbers: x and y of polygons in turn, in pixels; or run lengths.
        texts: Run lengths as text; empty for other kinds.
        sizes: Height and width that run lengths are for.
    """

    kind: UInt8[np.ndarray, "A"]
    rings: Int[np.ndarray, "A+1"]
    places: Int[np.ndarray, "R+1"]
    numbers: Float[np.ndarray, "K"]
    texts: PackedTexts
    sizes: Int[np.ndarray, "A 2"]

    def mask(self, index: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """Return the pixels of one object of an image of this height and width.

        Raises:
            OutlineError: If the outline is none, or one of another image.
        """
        kind = self.kind[index]
        if kind == Kind.POLYGONS:
            lengths = _drawn([_checked_ring(ring, size) for ring in self._rings(index)], size)
        elif kind in (Kind.RUN_LENGTHS, Kind.TEXT):
            lengths = self._run_lengths(index, size)
        elif kind == Kind.NOTHING:
            raise OutlineError("annotation without outline", "has no segmentation", "draw it, or remove the annotation")
        else:
            found = "its segmentation is neither a list of polygons nor run lengths"
            raise OutlineError("unknown outline", found, "export it anew as COCO instances")
        is_inside = np.arange(len(lengths)) % 2 == 1
        return is_inside.repeat(lengths).reshape(size[::-1]).T

    def _rings(self, index: int) -> list[Float[np.ndarray, "k"]]:
        first, last = self.rings[index : index + 2]
        return [self.numbers[self.places[ring] : self.places[ring + 1]] for ring in range(first, last)]

    def _run_lengths(self, index: int, size: tuple[int, int]) -> Int[np.ndarray, "k"]:
        if tuple(self.sizes[index]) != size:
            found = "run lengths of {} x {}, but its image is {} x {} (height x width)".format(
                *self.sizes[index], *size
            )
            raise OutlineError("run lengths of another size", found, "export them anew for this image")
        is_text = self.kind[index] == Kind.TEXT
        lengths = _lengths(self.texts[index].encode("latin-1", "replace")) if is_text else self._rings(index)[0]
        total = lengths.sum()
        if (lengths < 0).any() or (lengths % 1 != 0).any() or total != size[0] * size[1]:
            found = f"its run lengths add up to {total:g} pixels of {size[0] * size[1]}"
            raise OutlineError("damaged run lengths", found, "export them anew")
        return lengths.astype(np.int64)


def _drawn(rings: list[list[float]], size: tuple[int, int]) -> Int[np.ndarray, "k"]:
    """Return the run lengths of what lies in any of some polygons."""
    from pycocotools import mask as mask_utils

    drawn: Any = rings  # which its stubs do not know
    return _lengths(mask_utils.merge(mask_utils.frPyObjects(drawn, *size))["counts"])  # pyright: ignore[reportArgumentType]


def _checked_ring(ring: Float[np.ndarray, "k"], size: tuple[int, int]) -> list[float]:
    if len(ring) < 6 or len(ring) % 2:
        found = f"a polygon of {len(ring) // 2} points" + (" and half a point" if len(ring) % 2 else "")
        raise OutlineError("polygon without area", found, "draw three points at least, or remove the annotation")
    if not np.isfinite(ring).all():
        raise OutlineError("polygon without area", "a point of its polygon is no number", "draw it anew")
    side = max(size)
    if ring.min() < -side or ring.max() > 2 * side:
        found = f"a polygon reaches {max(-ring.min(), ring.max()):g}, far outside its image of {size[0]} x {size[1]}"
        raise OutlineError("polygon of another image", found, "give its points in pixels of this image")
    return ring.tolist()


def _lengths(text: bytes) -> Int[np.ndarray, "k"]:
    """Return the run lengths of COCO's text: digits of 5 bits, the lowest first; from the fourth on as differences.

    They are numbers whatever the text says, but may be none that an image can have.
    """
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = (digits & 32 == 0).nonzero()[0]
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    if not len(ends) or ends[-1] != len(digits) - 1 or digits.min() < 0 or digits.max() > 63:
        raise OutlineError("damaged run lengths", "its run lengths are no text of COCO's", "export them anew")
    counts = ends - starts + 1
    if counts.max() > _DIGITS:
        raise OutlineError("damaged run lengths", "one of its run lengths is larger than any image", "export them anew")
    place = np.arange(len(digits)) - starts.repeat(counts)
    values = np.add.reduceat((digits & 31) << (5 * place), starts)
    values -= (digits[ends] & 16 > 0) << (5 * counts)  # a negative number's last digit has its highest bit
    for first in (1, 2):
        values[first::2] = values[first::2].cumsum()
    return values
