"""Outlines of masks: polygons along the edges of pixels, which hold exactly the mask's pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int

Ring: TypeAlias = list[tuple[int, int]]
"""Corners x, y, of which the last is the first again."""

# Steps right, down, left and up; a step is taken with the mask on its right.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def polygons(mask: Bool[np.ndarray, "h w"], corner: tuple[int, int] = (0, 0)) -> list[list[Ring]]:
    """Return the polygons of a mask's regions: each is an outer ring and the rings of its holes.

    Pixels that touch at a corner alone are of different polygons.

    Args:
        mask: Of an image or a part of it.
        corner: Row and column of the part's upper left pixel.
    """
    from scipy import ndimage

    labels, number = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    found = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels, number), start=1):
        region = labels[rows, columns] == label
        offset = columns.start + corner[1], rows.start + corner[0]
        rings = [[(x + offset[0], y + offset[1]) for x, y in ring] for ring in _rings(region)]
        found.append(sorted(rings, key=signed_area, reverse=True))  # those of holes have areas below 0
    return found


def _rings(region: Bool[np.ndarray, "h w"]) -> Iterator[Ring]:
    """Yield the rings around a region: the outer one clockwise on the screen, those of holes the other way."""
    edges = _edges(region)
    left = dict.fromkeys(edges)
    while left:
        edge = start = next(iter(left))
        ring: Ring = []
        while not ring or edge != start:
            del left[edge]
            x, y, direction = edge
            ring.append((x, y))
            x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
            # Where two pixels of the region touch at a corner two edges go on. They hang together elsewhere, so that
            # turning left goes on to the other one, and no ring comes to a corner twice.
            turns = ((direction - 1) % 4, direction, (direction + 1) % 4)
            edge = next((x, y, turn) for turn in turns if (x, y, turn) in edges)
        yield _without_straight(ring)


def _edges(region: Bool[np.ndarray, "h w"]) -> set[tuple[int, int, int]]:
    """Return the edges between a region and the rest: where each begins, and its direction."""
    padded = np.pad(region, 1)
    inside = padded[1:-1, 1:-1]
    found: set[tuple[int, int, int]] = set()
    sides = (
        (padded[:-2, 1:-1], (0, 0), 0),  # above: to the right along the top
        (padded[1:-1, 2:], (1, 0), 1),
        (padded[2:, 1:-1], (1, 1), 2),
        (padded[1:-1, :-2], (0, 1), 3),
    )
    for neighbor, (x, y), direction in sides:
        rows, columns = np.nonzero(inside & ~neighbor)
        found.update(zip((columns + x).tolist(), (rows + y).tolist(), [direction] * len(rows), strict=True))
    return found


def _without_straight(ring: Ring) -> Ring:
    """Return a ring without corners that are none, closed."""
    corners: Int[np.ndarray, "n 2"] = np.array(ring)
    before, after = np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0)
    turns = ((corners - before) != 0).argmax(axis=1) != ((after - corners) != 0).argmax(axis=1)
    kept = [tuple(corner) for corner in corners[turns].tolist()]
    return [*kept, kept[0]]


def signed_area(ring: Ring) -> float:
    """Return the area in a ring, above 0 if its corners go clockwise on the screen, whose y axis points down."""
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)
