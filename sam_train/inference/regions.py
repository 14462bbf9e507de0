"""Connected regions of masks: small holes filled, small specks removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# By how much logits of filled and removed regions lie beyond the threshold (sam2/utils/transforms.py).
_BEYOND = 10.0


@dataclass(frozen=True)
class Cleaning:
    """How masks are tidied; by default not at all.

    Attributes:
        threshold: Logits above it are inside.
        max_hole_area: Holes of at most so many pixels of the logits are filled.
        max_sprinkle_area: Specks of at most so many pixels of the logits are removed.
        non_overlapping: Each pixel belongs to the object with the highest logit there, so that no two objects of an
            image have it.
    """

    threshold: float = 0.0
    max_hole_area: float = 0.0
    max_sprinkle_area: float = 0.0
    non_overlapping: bool = False


def clean_logits(logits: Float[Tensor, "P M h w"], cleaning: Cleaning) -> Float[Tensor, "P M h w"]:
    """Fill the holes of masks and remove their specks, as SAM 2's image predictor does before it resizes them.

    Specks are looked for before holes are filled. Regions touch at corners, too.
    """
    cleaned = logits
    inside = logits > cleaning.threshold
    for regions, largest, value in (
        (~inside, cleaning.max_hole_area, cleaning.threshold + _BEYOND),
        (inside, cleaning.max_sprinkle_area, cleaning.threshold - _BEYOND),
    ):
        if largest > 0:
            areas = region_areas(regions.flatten(0, 1)).view(logits.shape)
            cleaned = torch.where((areas > 0) & (areas <= largest), value, cleaned)
    return cleaned


def remove_small_regions(masks: Bool[Tensor, "n h w"], min_area: float) -> Bool[Tensor, "n h w"]:
    """Fill holes and then remove islands smaller than an area, as ``remove_small_regions`` of SAM does.

    Where all islands of a mask are small, the largest stays.
    """
    holes = region_areas(~masks)
    filled = masks | ((holes > 0) & (holes < min_area))
    islands = region_areas(filled)
    largest = islands.flatten(1).amax(dim=1)[:, None, None]
    kept = filled & (islands >= torch.clamp(largest, max=min_area))
    is_small = ((largest < min_area) & (largest > 0))[:, 0, 0]
    if is_small.any():
        kept[is_small] = _first_largest(filled[is_small], islands[is_small])
    return kept


def region_areas(masks: Bool[Tensor, "n h w"]) -> Int[Tensor, "n h w"]:
    """Return for each pixel the area of the region that it is in; 0 outside of the masks."""
    labels = _label(masks)
    areas = np.bincount(labels.ravel(), minlength=1)
    areas[0] = 0
    return torch.from_numpy(areas[labels]).to(masks.device)


def _label(masks: Bool[Tensor, "n h w"]) -> Int[np.ndarray, "n h w"]:
    """Number the regions of all masks; no region reaches from one mask into the next."""
    from scipy import ndimage

    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True
    labels, _ = ndimage.label(masks.cpu().numpy(), touching)  # pyright: ignore[reportGeneralTypeIssues]
    return labels


def _first_largest(masks: Bool[Tensor, "n h w"], areas: Int[Tensor, "n h w"]) -> Bool[Tensor, "n h w"]:
    """Return each mask's largest region alone; of several as large the first in reading order."""
    first = areas.flatten(1).argmax(dim=1)
    labels = torch.from_numpy(_label(masks)).to(masks.device)
    chosen = labels.flatten(1).gather(1, first[:, None])
    return masks & (labels == chosen[:, :, None])
