"""Windows of a map, for attention that sees one of them at a time."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def partition_windows(x: Float[Tensor, "B h w C"], side: int) -> Float[Tensor, "n side side C"]:
    """Return all windows of all maps, row by row; maps are padded with zeros at the right and bottom as needed."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    return x.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3).flatten(0, 2)


def merge_windows(windows: Float[Tensor, "n side side C"], size: tuple[int, int]) -> Float[Tensor, "B h w C"]:
    """Undo :func:`partition_windows` for maps of this height and width, and drop the padding."""
    height, width = size
    side = windows.shape[1]
    rows, columns = -(-height // side), -(-width // side)
    x = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x[:, :height, :width]
