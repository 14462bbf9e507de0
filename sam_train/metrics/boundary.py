"""How well the outlines of masks agree.

Distances are measured once for each pair of masks, by scipy within the box around both: MONAI's functions, which give
the same numbers (``tests/metrics/test_boundary.py``), measure anew for each metric and take ten times as long on
objects of 100 pixels (``benchmarks/RESULTS.md``). Masks without a pixel score by
:func:`sam_train.metrics.surface.score_if_empty`: 1 (HD95: 0) where both are empty, 0 (HD95: the image's diagonal) where
one is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sam_train.errors import InputError
from sam_train.metrics.base import MaskPairs, Metric, Variants
from sam_train.metrics.crops import MaskCrop, Unit
from sam_train.metrics.surface import score_if_empty

BOUNDARY_RATIO = 0.02  # of the image's diagonal: Cheng et al. 2021, section 4.3


def normalized_surface_distance(pairs: MaskPairs, tolerance: float, unit: Unit) -> Float[Tensor, "P"]:
    """Share of the edge pixels of both masks within ``tolerance`` of the other's edge, in [0, 1].

    The formula is that of :meth:`sam_train.metrics.surface.SurfaceDistances.nsd`.

    Raises:
        InputError: If the tolerance is in mm and the size of a pixel is not known.
    """
    return _scores(crop.distances(unit).nsd(tolerance) for crop in pairs.crops)


def hausdorff_distance_95(pairs: MaskPairs, unit: Unit) -> Float[Tensor, "P"]:
    """95th percentile of the distances between edges, the larger one of both directions, in pixels or mm.

    The formula is that of :meth:`sam_train.metrics.surface.SurfaceDistances.hd95`.

    Raises:
        InputError: If it is to be in mm and the size of a pixel is not known.
    """
    return _scores(crop.distances(unit).hd95(crop.diagonal(unit)) for crop in pairs.crops)


def boundary_iou(pairs: MaskPairs, ratio: float = BOUNDARY_RATIO) -> Float[Tensor, "P"]:
    """Intersection over union of the masks' inner bands, in [0, 1].

    The band of a mask is what an erosion by 3 x 3 pixels, repeated max(1, round(ratio x image diagonal)) times,
    takes away; the border of the image counts as an outline (Cheng et al. 2021, Boundary IoU).
    """
    return _scores(_boundary_iou(crop, ratio) for crop in pairs.crops)


def _boundary_iou(crop: MaskCrop, ratio: float) -> float:
    empty = score_if_empty(bool(crop.predicted.any()), bool(crop.truth.any()), perfect=1.0, miss=0.0)
    if empty is not None:
        return empty
    distance = max(round(ratio * math.hypot(*crop.image_size)), 1)
    predicted, truth = (mask & ~_erode(mask, distance) for mask in (crop.predicted, crop.truth))
    return np.count_nonzero(predicted & truth) / np.count_nonzero(predicted | truth)


def _erode(mask: Bool[np.ndarray, "r c"], distance: int) -> Bool[np.ndarray, "r c"]:
    """Keep pixels whose square of ``2 x distance + 1`` pixels lies in the mask; beyond the array is background."""
    mask = np.pad(mask, distance)
    for _ in range(2):  # rows, then columns
        width = 1  # of the window that each row now speaks for
        while width < 2 * distance + 1:
            step = min(width, 2 * distance + 1 - width)
            mask = mask[:-step] & mask[step:]
            width += step
        mask = mask.T
    return mask


def _scores(values: Iterable[float]) -> Float[Tensor, "P"]:
    return torch.tensor(list(values), dtype=torch.float32)


def nsd(tolerance: float = 2.0, unit: Unit = "px", name: str = "nsd") -> Metric:
    """Make the metric :func:`normalized_surface_distance` at a tolerance, such as ``nsd(1, "mm", "nsd_1mm")``.

    Raises:
        InputError: If the tolerance is no distance.
    """
    if not 0 <= tolerance < math.inf:
        raise InputError(f"metric {name}: a tolerance of {tolerance:g} {unit}; give a distance, such as 2")
    return Metric(
        name,
        partial(normalized_surface_distance, tolerance=float(tolerance), unit=unit),
        title=f"NSD ({tolerance:g} {unit})",
        needs_spacing=unit == "mm",
        variants=Variants(_named_nsd, ("nsd_3px", "nsd_1mm")),
    )


def _named_nsd(name: str) -> Metric | None:
    found = re.fullmatch(r"nsd_(\d+(?:\.\d+)?)(px|mm)", name)
    return nsd(float(found[1]), "px" if found[2] == "px" else "mm", name) if found else None


def hd95(unit: Unit = "px", name: str = "hd95") -> Metric:
    """Make the metric :func:`hausdorff_distance_95` in a unit."""
    return Metric(
        name,
        partial(hausdorff_distance_95, unit=unit),
        higher_is_better=False,
        title=f"HD95 ({unit})",
        needs_spacing=unit == "mm",
        variants=Variants(_named_hd95, ("hd95_mm",)),
    )


def _named_hd95(name: str) -> Metric | None:
    return hd95("mm", name) if name == "hd95_mm" else None


BOUNDARY_IOU = Metric("boundary_iou", boundary_iou, title="boundary IoU")
NSD = nsd()
HD95 = hd95()
