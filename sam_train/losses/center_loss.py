"""The loss of a head that finds objects by their centers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sam_train.centers import CenterMaps, ObjectBoxes

_MIN_OVERLAP = 0.7  # a box moved by the radius still overlaps the true one by this IoU (Law and Deng 2018, section 3.2)


class CenterTerms(NamedTuple):
    """Terms of the loss, each summed over the objects of a batch, before its weight."""

    heat: Float[Tensor, ""]
    size: Float[Tensor, ""]
    offset: Float[Tensor, ""]


class CenterTargets(NamedTuple):
    """Truth on the grid of the maps.

    Attributes:
        heat: 1 where the center of an object of a category is, falling off around it; 0 far from any.
        counted: Cells that are compared: those without an ignored pixel, and all centers.
        image: Per object, its image.
        cell: Per object, row and column of its center.
        size: Per object, logarithms of width and height in cells.
        offset: Per object, x, y of its center from the corner of its cell, in cells.
    """

    heat: Float[Tensor, "B C h w"]
    counted: Bool[Tensor, "B 1 h w"]
    image: Int[Tensor, "K"]
    cell: Int[Tensor, "K 2"]
    size: Float[Tensor, "K 2"]
    offset: Float[Tensor, "K 2"]


@dataclass(frozen=True)
class CenterLoss:
    """Penalty-reduced focal loss of heat maps, L1 of sizes and offsets (Zhou et al., "Objects as Points", 2019).

    The center of an object is that of its box, which is where a box can be drawn from. Sizes are compared as
    logarithms, not in cells as in the paper: what a decoder forgives of a box is a share of its sides.

    Attributes:
        size: Weight of the size's error.
        offset: Weight of the offset's error.
        alpha: How much less a cell counts that is nearly right (equation 1).
        beta: How much less a cell counts as background near a center.
    """

    size: float = 1.0
    offset: float = 1.0
    alpha: float = 2.0
    beta: float = 4.0

    def total(self, terms: CenterTerms) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms."""
        return terms.heat + self.size * terms.size + self.offset * terms.offset

    def __call__(self, maps: CenterMaps, targets: CenterTargets) -> CenterTerms:
        """Return the terms."""
        heat = self._focal(maps.heat, targets.heat, targets.counted)
        image, (row, column) = targets.image, targets.cell.unbind(dim=1)
        size, offset = (part[image, :, row, column] for part in (maps.size, maps.offset))
        return CenterTerms(heat, (size - targets.size).abs().sum(), (offset - targets.offset).abs().sum())

    def _focal(self, logits: Tensor, truth: Tensor, counted: Tensor) -> Float[Tensor, ""]:
        probability = logits.sigmoid()
        at_center = -F.logsigmoid(logits) * (1 - probability) ** self.alpha
        elsewhere = -F.logsigmoid(-logits) * probability**self.alpha * (1 - truth) ** self.beta
        return (torch.where(truth == 1, at_center, elsewhere) * counted).sum()


def center_targets(truth: ObjectBoxes, num_images: int, num_categories: int, grid: int, stride: float) -> CenterTargets:
    """Return the truth on the grid of the maps.

    Args:
        truth: All objects.
        num_images: B.
        num_categories: C.
        grid: Side of the maps in cells.
        stride: Side of a cell in pixels of the model's input.
    """
    boxes = truth.boxes / stride
    extent = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1 / stride)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    cell = center.long().clamp(0, grid - 1)
    heat = boxes.new_zeros(num_images, num_categories, grid, grid)
    sigma = (2 * gaussian_radius(extent, _MIN_OVERLAP) + 1) / 6
    steps = torch.arange(grid, device=boxes.device)
    x, y = (torch.exp(-((steps - cell[:, axis, None]) ** 2) / (2 * sigma[:, None] ** 2)) for axis in (0, 1))
    for index, (image, category) in enumerate(zip(truth.object_image.tolist(), truth.category.tolist(), strict=True)):
        of_category = heat[image, category]
        torch.maximum(of_category, y[index, :, None] * x[index], out=of_category)
    counted = torch.ones_like(heat[:, :1], dtype=torch.bool)
    if truth.ignore is not None:
        step = truth.ignore.shape[-1] // grid
        counted = F.max_pool2d(truth.ignore[:, None].float(), step) == 0
        counted = counted | (heat == 1).any(dim=1, keepdim=True)
    return CenterTargets(heat, counted, truth.object_image, cell.flip(1), extent.log(), center - cell)


def gaussian_radius(extent: Float[Tensor, "K 2"], overlap: float) -> Float[Tensor, "K"]:
    """Return how far both corners of a box can be off so that its IoU with the true box is at least ``overlap``.

    The least of three distances (Law and Deng, "CornerNet", 2018): both corners moved the same way, both inward, both
    outward. Each is the root of a quadratic equation in the distance r for sides w, h.

    Args:
        extent: Width and height of the true box.
        overlap: The IoU.
    """
    total, area = extent.sum(dim=1), extent.prod(dim=1)
    moved = (total - (total**2 - 4 * area * (1 - overlap) / (1 + overlap)).sqrt()) / 2
    inward = (total - (total**2 - 4 * area * (1 - overlap)).sqrt()) / 4
    outward = ((total**2 + 4 * area * (1 - overlap) / overlap).sqrt() - total) / 4
    return torch.stack([moved, inward, outward]).amin(dim=0)
