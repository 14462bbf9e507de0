"""Where automatic mask generation looks: crops of an image, and points in them."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Crop(NamedTuple):
    """A part of an image.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image; x1 and y1 are the first beyond it.
        layer: 0 for the whole image, 1 for its four parts and so on.
    """

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def point_grid(points_per_side: int) -> Float[np.ndarray, "n 2"]:
    """Return evenly spaced points x, y of a unit square, row by row, in the middle of as many cells."""
    offset = 1 / (2 * points_per_side)
    side = np.linspace(offset, 1 - offset, points_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def layer_grids(points_per_side: int, num_layers: int, downscale: int) -> list[Float[np.ndarray, "_ 2"]]:
    """Return the grid of each layer of crops; a layer has ``downscale`` times fewer points per side than the last."""
    return [point_grid(max(int(points_per_side / downscale**layer), 1)) for layer in range(num_layers + 1)]


def crop_boxes(size: tuple[int, int], num_layers: int, overlap: float) -> list[Crop]:
    """Return the whole image and, of each further layer i, its ``4 ** i`` overlapping parts.

    Args:
        size: Height and width of the image.
        num_layers: Layers beyond the whole image.
        overlap: Of neighbors in the first such layer, as a share of the image's shorter side.
    """
    height, width = size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, num_layers + 1):
        per_side = 2**layer
        shared = int(overlap * min(size) * (2 / per_side))
        crop_width, crop_height = (math.ceil((shared * (per_side - 1) + side) / per_side) for side in (width, height))
        for column, row in product(range(per_side), repeat=2):
            x, y = (crop_width - shared) * column, (crop_height - shared) * row
            crops.append(Crop((x, y, min(x + crop_width, width), min(y + crop_height, height)), layer))
    return crops
