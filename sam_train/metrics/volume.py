"""Overlap and outline of one object in a volume whose slices come one after the other."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Int

from sam_train.metrics.surface import SurfaceDistances, edge_pixels, score_if_empty

TOLERANCE = 2.0  # mm, or voxels where the spacing is not known: as NSD of images has 2 pixels


class VolumeScore:
    """Compares one object's predicted and true masks through a volume.

    Slices are added in their order, those without the object too. Held are the number of pixels, the points of both
    surfaces and the last two slices, not the volume. A mask without a pixel in any slice scores by
    :func:`sam_train.metrics.surface.score_if_empty`.

    Args:
        spacing: Distance in mm from one slice to the next, from one row and from one column to the next; ones for
            distances in voxels of a volume whose spacing is not known.
    """

    def __init__(self, spacing: tuple[float, float, float]) -> None:
        self.spacing = spacing
        self._size: tuple[int, int] | None = None
        self._predicted, self._truth = _Surface(), _Surface()
        self._intersection = 0
        self._distances: SurfaceDistances | None = None  # of the slices so far

    def add(self, predicted: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> None:
        """Take the next slice of both masks."""
        assert predicted.shape == truth.shape == (self._size or truth.shape), "slices of one volume have one size"
        self._size = (truth.shape[0], truth.shape[1])
        self._intersection += int(np.count_nonzero(predicted & truth))
        self._predicted.add(predicted)
        self._truth.add(truth)
        self._distances = None

    def dice(self) -> float:
        """Dice coefficient 2|A∩B| / (|A| + |B|) over the voxels of the volume, in [0, 1]."""
        areas = self._predicted.area, self._truth.area
        empty = score_if_empty(areas[0] > 0, areas[1] > 0, perfect=1.0, miss=0.0)
        return 2 * self._intersection / sum(areas) if empty is None else empty

    def distances(self) -> SurfaceDistances:
        """Distances in mm between the surfaces, in all three directions."""
        if self._distances is None:
            surfaces = (surface.points() * self.spacing for surface in (self._predicted, self._truth))
            self._distances = SurfaceDistances.between(*surfaces)
        return self._distances

    def nsd(self, tolerance: float) -> float:
        """Normalized surface distance at a tolerance in mm, see :meth:`SurfaceDistances.nsd`."""
        return self.distances().nsd(tolerance)

    def hd95(self) -> float:
        """95th percentile Hausdorff distance in mm, see :meth:`SurfaceDistances.hd95`; a miss is one diagonal off."""
        return self.distances().hd95(self.diagonal())

    def diagonal(self) -> float:
        """Length of the volume's diagonal in mm, of the slices so far."""
        assert self._size is not None, "a volume has a slice"
        return math.hypot(*np.multiply((self._truth.num_slices, *self._size), self.spacing))


class _Surface:
    """Points on the surface of a mask: a slice's are known when the next slice is."""

    def __init__(self) -> None:
        self.num_slices = self.area = 0
        self._known: list[Int[np.ndarray, "n 3"]] = []
        self._before: Bool[np.ndarray, "h w"] | None = None
        self._last: Bool[np.ndarray, "h w"] | None = None

    def add(self, mask: Bool[np.ndarray, "h w"]) -> None:
        if self._last is not None:
            self._known.append(self._points_of_last(mask))
        self._before, self._last = self._last, mask.copy()  # the caller may write the next slice into the same array
        self.num_slices += 1
        self.area += int(np.count_nonzero(mask))

    def points(self) -> Int[np.ndarray, "n 3"]:
        """Slice, row and column of each voxel that shares a face with background, which lies beyond the volume too."""
        assert self._last is not None, "a volume has a slice"
        return np.concatenate([*self._known, self._points_of_last(np.zeros_like(self._last))])

    def _points_of_last(self, after: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "n 3"]:
        mask, before = self._last, self._before
        assert mask is not None
        surface = edge_pixels(mask) | (mask if before is None else mask & ~(before & after))
        rows, columns = np.nonzero(surface)
        return np.stack([np.full_like(rows, self.num_slices - 1), rows, columns], axis=1).astype(np.int32)
