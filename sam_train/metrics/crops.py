"""Pairs of masks cut down to their objects, which is all that a metric has to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from sam_train.errors import InputError
from sam_train.metrics.surface import SurfaceDistances, edge_points

Unit = Literal["px", "mm"]


@dataclass(frozen=True, eq=False)
class MaskCrop:
    """A predicted and a true mask within the box around both, as arrays that are cheap to send to another process.

    The box needs no margin: neither mask has a pixel beyond it, and the border of the image counts as an edge, so that
    whatever lies outside is background to edges, erosion and distances alike.

    Attributes:
        predicted: The predicted mask within the box; without rows and columns where both masks are empty.
        truth: The true mask within the box.
        corner: Row and column of the box's upper left pixel in the image.
        image_size: Height and width of the whole image.
        spacing: Distance in mm from one row to the next and from one column to the next; None where it is unknown.
    """

    predicted: Bool[np.ndarray, "r c"]
    truth: Bool[np.ndarray, "r c"]
    corner: tuple[int, int]
    image_size: tuple[int, int]
    spacing: tuple[float, float] | None = None

    def pixel_size(self, unit: Unit) -> tuple[float, float]:
        """Distance from one row to the next and from one column to the next.

        Raises:
            InputError: If it is to be in mm and is not known.
        """
        if unit == "px":
            return (1.0, 1.0)
        if self.spacing is None:
            raise InputError(
                "evaluation.metrics: a distance in mm was asked for, and the data do not say how large their pixels "
                "are; give their spacing, or take the metric in pixels (hd95, nsd_2px)"
            )
        return self.spacing

    def diagonal(self, unit: Unit) -> float:
        """Length of the whole image's diagonal."""
        rows, columns = self.pixel_size(unit)
        return math.hypot(self.image_size[0] * rows, self.image_size[1] * columns)

    def distances(self, unit: Unit) -> SurfaceDistances:
        """Distances between the edges of both masks; measured once."""
        if unit not in self._distances:
            size = self.pixel_size(unit)
            predicted, truth = (points * size for points in self._edges)
            self._distances[unit] = SurfaceDistances.between(predicted, truth)
        return self._distances[unit]

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        return edge_points(self.predicted), edge_points(self.truth)

    @cached_property
    def _distances(self) -> dict[Unit, SurfaceDistances]:
        return {}


def crop_pairs(
    predicted: Bool[Tensor, "P h w"], truth: Bool[Tensor, "P h w"], spacing: tuple[float, float] | None
) -> tuple[MaskCrop, ...]:
    """Cut each pair of masks to the box around both."""
    height, width = predicted.shape[1:]
    crops = []
    for index, (rows, columns) in enumerate(_boxes(predicted, truth)):
        ours, theirs = (mask[index, rows, columns].cpu().numpy().copy() for mask in (predicted, truth))
        crops.append(MaskCrop(ours, theirs, (rows.start, columns.start), (height, width), spacing))
    return tuple(crops)


def _boxes(predicted: Bool[Tensor, "P h w"], truth: Bool[Tensor, "P h w"]) -> list[tuple[slice, slice]]:
    """Rows and columns of the box around both masks of each pair."""
    if predicted.device.type == "cpu":
        return [box_around(*masks) for masks in zip(predicted.numpy(), truth.numpy(), strict=True)]
    # A few large steps rather than many small ones.
    rows, columns = ((predicted.any(axis) | truth.any(axis)).cpu().numpy() for axis in (2, 1))
    return [(_span(row), _span(column)) for row, column in zip(rows, columns, strict=True)]


def box_around(*masks: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Rows and columns of the box around all pixels of some masks; of no length where there are none."""
    rows = _span(np.logical_or.reduce([mask.any(1) for mask in masks]))
    return rows, _span(np.logical_or.reduce([mask[rows].any(0) for mask in masks]))


def _span(occupied: Bool[np.ndarray, "n"]) -> slice:
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)
