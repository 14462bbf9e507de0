"""Questions whether masks mean something else than is read; the answers are judged over the whole set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from sam_train.data.sources.doubts import Doubt
from sam_train.data.sources.mask_pieces import Counted, count_scattered

MANY_PIECES = 5  # one object rarely has as many, even behind others
VOID = 255  # by convention since PASCAL VOC 2007, where objects have a rim of it
_LARGEST_CLASS = 100  # where VOID is void, the other numbers are classes or a few objects


def in_many_pieces(mask: Counted, path: Path) -> Doubt:
    """Ask whether numbers are classes: at least a quarter of them consist of many pieces, none of them the main one."""
    scattered, number, pieces = count_scattered(mask, MANY_PIECES)
    holds = 4 * scattered >= (mask.numbers > 0).sum()
    found = f"{pieces} separate pieces have the same number {number}, so that they count as one object"
    remedy = (
        "set data.objects=components if each piece is an object, or data.objects=binary if all are one "
        "(data.check=false takes them as they are)"
    )
    return Doubt("one number, many pieces", path, found, remedy, bool(holds) and scattered > 0)


def background_as_object(mask: Counted, ignored: Bool[np.ndarray, "h w"] | None, path: Path) -> Doubt:
    """Ask whether background has a number: one that covers most of the image and touches all sides, or none is 0."""
    pixels, numbers, areas = mask
    sides = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    around = set.intersection(*(set(np.unique(side).tolist()) for side in sides)) - {0}
    largest, area = int(numbers[areas.argmax()]), int(areas.max())
    num_zeros = areas[0] if numbers[0] == 0 else 0
    found = ""
    if largest in around and 2 * area > pixels.size:
        found = f"number {largest} covers {area / pixels.size:.0%} of the image and touches all four sides"
    elif num_zeros == (0 if ignored is None else ignored.sum()):
        found = f"holds {numbers[numbers > 0][0]} to {numbers[-1]} and no 0, so that every pixel belongs to an object"
    remedy = (
        "set data.background=<its number> if this is background (and data.ignore=[...] for numbers that are neither), "
        "or data.background=0 if it is an object"
    )
    return Doubt("background as an object", path, found, remedy, bool(found))


def void_as_object(mask: Counted, path: Path) -> Doubt:
    """Ask whether 255 is a rim to be ignored: it touches at least half of the other numbers, all of them small."""
    others = mask.numbers[(mask.numbers > 0) & (mask.numbers != VOID)]
    holds = VOID in mask.numbers and len(others) > 0 and bool(others.max() <= _LARGEST_CLASS)
    holds = holds and 2 * len(_touching(mask.pixels, VOID)) >= len(others)
    found = f"{VOID} lies around the other {len(others)} numbers, and counts as an object"
    remedy = f"set data.ignore=[{VOID}] if it marks pixels that are neither object nor background, as in PASCAL VOC"
    return Doubt("void as an object", path, found, f"{remedy} (data.check=false takes it as it is)", holds)


def _touching(pixels: Int[np.ndarray, "h w"], number: int) -> set[int]:
    """Return the other numbers above 0 that share a side of a pixel with this one."""
    found: set[int] = set()
    for one, other in ((pixels[:-1], pixels[1:]), (pixels[:, :-1], pixels[:, 1:])):
        for here, beside in ((one, other), (other, one)):
            found.update(np.unique(beside[here == number]).tolist())
    return found - {0, number}
