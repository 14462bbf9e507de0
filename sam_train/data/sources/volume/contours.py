"""Closed outlines in a plane, filled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def fill(points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose middle lies in a closed outline, by the even-odd rule.

    Args:
        points: Row and column of the outline's corners, where whole numbers are the middles of pixels.
        size: Height and width.
    """
    mask = np.zeros(size, bool)
    rows, columns = points.T
    next_rows, next_columns = np.roll(rows, -1), np.roll(columns, -1)
    for row in range(max(int(np.ceil(rows.min())), 0), min(int(rows.max()), size[0] - 1) + 1):
        crosses = (rows <= row) != (next_rows <= row)
        share = (row - rows[crosses]) / (next_rows[crosses] - rows[crosses])
        ends = np.sort(columns[crosses] + share * (next_columns[crosses] - columns[crosses]))
        for left, right in zip(ends[::2], ends[1::2], strict=True):
            mask[row, max(int(np.ceil(left)), 0) : max(int(np.ceil(right)), 0)] = True
    return mask
