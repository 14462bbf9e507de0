"""A simulated person: a first prompt for each object, then clicks on what the model got wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor
from torchvision.ops import masks_to_boxes

from sam_train.errors import InputError
from sam_train.preprocessing import downscale_masks, resize_logits, valid_region
from sam_train.prompts.sampling import (
    error_centers,
    interior_points,
    jitter_boxes,
    pixels_in_cells,
    random_error_points,
    random_points,
    rough_masks,
)
from sam_train.structures import NUM_DRAWS, Batch, MaskPrediction, PointLabel, Prompts

CLICK_GRID = 256  # clicks are placed on a grid of about this side: the logits' own at 1024 px, every pixel at 256
FIRST_DRAWS = 6  # kind, four box sides, point


@dataclass(frozen=True)
class PromptSimulator:
    """Settings of a simulated person. All randomness comes from the objects' own draws (:attr:`Batch.draws`).

    Attributes:
        box: Relative frequency of a box as an object's first prompt.
        point: Relative frequency of one click anywhere on the object.
        center: Relative frequency of one click in the object's middle, the point farthest from its edge.
        mask: Relative frequency of a rough mask, like an earlier prediction.
        box_noise: Largest error of a box's corners, as a fraction of its sides (SAM 2: 0.1).
        corrections: Number of clicks after the first prompt; each sees the logits of the round before.
        correct_at: Place of a correction in the region of errors: any pixel (``random``), or its middle (``center``).
    """

    box: float = 0.0
    point: float = 0.0
    center: float = 0.0
    mask: float = 0.0
    box_noise: float = 0.1
    corrections: int = 0
    correct_at: Literal["random", "center"] = "random"

    def __post_init__(self) -> None:
        if min(self._frequencies) < 0 or not sum(self._frequencies):
            raise InputError(f"prompts: box, point, center, mask = {self._frequencies}; give one of them more than 0")
        if not 0 <= self.corrections <= NUM_DRAWS - FIRST_DRAWS:
            raise InputError(f"prompts.corrections={self.corrections}, possible are 0..{NUM_DRAWS - FIRST_DRAWS}")
        if self.correct_at not in ("random", "center"):
            raise InputError(f"prompts.correct_at={self.correct_at!r}, possible are random and center")

    @property
    def _frequencies(self) -> tuple[float, float, float, float]:
        return self.box, self.point, self.center, self.mask

    def clicks_first(self) -> bool:
        """Tell whether the first prompt of some objects is one click."""
        return self.point + self.center > 0

    def validated_by(self) -> list[str]:
        """Return the protocols of :data:`EVALUATION` that test what this simulator trains."""
        asked = {"box": self.box, "point": self.point + self.center + self.mask, "clicks": self.corrections}
        return [name for name, weight in asked.items() if weight]

    def first(self, batch: Batch) -> Prompts:
        """Return each object's first prompt, of a kind drawn for this object alone."""
        masks, draws = batch.masks, batch.draws
        bounds = torch.tensor(self._frequencies, device=masks.device).cumsum(0) / sum(self._frequencies)
        kind = (draws[:, :1] >= bounds[:-1]).sum(dim=1)
        is_box, is_point, is_center, is_mask = (kind == index for index in range(4))
        points = masks.new_zeros((len(masks), 2, 2), dtype=torch.float)
        labels = torch.full((len(masks), 2), PointLabel.EMPTY, device=masks.device)
        if self.box:
            boxes = jitter_boxes(masks_to_boxes(masks), self.box_noise, draws[:, 1:5], masks.shape[-1])
            box = Prompts.from_boxes(boxes)
            points = torch.where(is_box[:, None, None], box.points, points)
            labels = torch.where(is_box[:, None], box.labels, labels)
        if self.point:
            points[:, 0] = torch.where(is_point[:, None], random_points(masks, draws[:, 5]), points[:, 0])
        if self.center:
            stride, grid = _click_grid(masks)
            cell = interior_points(downscale_masks(masks, grid))
            middle = pixels_in_cells(cell, masks, torch.ones_like(is_center), stride)
            points[:, 0] = torch.where(is_center[:, None], middle, points[:, 0])
        labels[:, 0] = torch.where(is_point | is_center, PointLabel.OBJECT, labels[:, 0])
        if not self.mask:
            return Prompts(points, labels)
        return Prompts(points, labels, masks=rough_masks(masks, masks.shape[-1] // 4), has_mask=is_mask)

    def correct(self, batch: Batch, prompts: Prompts, prediction: MaskPrediction, number: int) -> Prompts:
        """Return the prompts so far, one more click where the prediction is wrong, and its logits as the mask prompt.

        No click lands where :attr:`Batch.ignore` says that nothing is known.

        Args:
            batch: The objects' truth.
            prompts: What led to the prediction.
            prediction: Of several candidates, the one with the best estimated IoU is corrected.
            number: Number of this correction, from 0.
        """
        logits = prediction.best().logits.detach()
        stride, grid = _click_grid(batch.masks)
        truth = downscale_masks(batch.masks, grid)
        inside = valid_region(batch.valid_size, batch.masks.shape[-1], stride)[batch.object_image]
        ignored = None if batch.ignore is None else batch.ignore[batch.object_image]
        if batch.ignore is not None:
            inside &= truth | ~downscale_masks(batch.ignore, grid)[batch.object_image]
        predicted = (resize_logits(logits, (grid, grid))[:, 0] > 0) & inside
        if self.correct_at == "center":
            cell, is_missed = error_centers(truth, predicted)
        else:
            cell, is_missed = random_error_points(truth, predicted, inside, batch.draws[:, FIRST_DRAWS + number])
        labels = torch.where(is_missed, PointLabel.OBJECT, PointLabel.BACKGROUND)
        pixel = pixels_in_cells(cell, batch.masks, is_missed, stride, ignored)
        if ignored is not None:  # where nothing is wrong, a click may have nowhere else to go
            x, y = pixel.long().unbind(dim=1)
            lands_there = ignored[torch.arange(len(x), device=x.device), y, x]
            labels = labels.masked_fill(lands_there, PointLabel.EMPTY)
        corrected = prompts.with_points(pixel[:, None], labels[:, None])
        return replace(corrected, masks=logits, has_mask=None)


def is_ambiguous(prompts: Prompts) -> Bool[Tensor, "P"]:
    """Return which objects have a single click and nothing else: they get three candidates, the others one."""
    num_points = (prompts.labels != PointLabel.EMPTY).sum(dim=1)
    if prompts.masks is None:
        return num_points == 1
    has_mask = prompts.has_mask if prompts.has_mask is not None else torch.ones_like(num_points, dtype=torch.bool)
    return (num_points == 1) & ~has_mask


def _click_grid(masks: Tensor) -> tuple[int, int]:
    side = masks.shape[-1]
    stride = 1
    while side // stride >= 2 * CLICK_GRID:  # doubling divides every side: they are multiples of a patch, 8 or 16
        stride *= 2
    return stride, side // stride


EVALUATION: dict[str, PromptSimulator] = {
    "box": PromptSimulator(box=1, box_noise=0),
    "point": PromptSimulator(center=1),
    "clicks": PromptSimulator(center=1, corrections=4, correct_at="center"),
}
"""Protocols of evaluation: the tight box, one click in the middle, and five clicks, each after the first in the middle
of the largest error. None draws at random, so that scores repeat whatever the batch size, workers or devices."""
