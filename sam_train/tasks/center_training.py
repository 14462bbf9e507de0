"""A head that finds objects without a prompt, trained beside the model that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.ops import masks_to_boxes

from sam_train.centers import ObjectBoxes
from sam_train.limits import check_limits
from sam_train.losses.center_loss import CenterLoss, CenterTerms, center_targets
from sam_train.models.center_head import CenterHead
from sam_train.models.promptable import PromptableModel
from sam_train.structures import Batch, ImageFeatures


@dataclass(frozen=True)
class CenterTraining:
    """Settings of the head.

    Attributes:
        lr: Peak learning rate, far above that of a model that was trained before; its schedule is the model's.
        weight_decay: Of its convolutions.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        check_limits("prompter", vars(self))


def new_head(model: PromptableModel, categories: Sequence[str], seed: int) -> CenterHead:
    """Return an untrained head for a model's features; the seed is for its weights alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CenterHead(model.feature_channels, len(categories))


class CenterLearner(nn.Module):
    """A head with what it learns by. It takes the model's features as they are: no gradient reaches the model.

    Args:
        head: What trains.
        rate: How fast.
        image_size: Side of the model's input in pixels.
    """

    def __init__(self, head: CenterHead, rate: CenterTraining, image_size: int) -> None:
        super().__init__()
        self.head = head
        self.rate = rate
        self.image_size = image_size
        self.loss = CenterLoss()

    def group(self) -> dict[str, Any]:
        """Return the head's parameters for an optimizer."""
        return {"params": [*self.parameters()], "lr": self.rate.lr, "weight_decay": self.rate.weight_decay}

    def terms(self, features: ImageFeatures, truth: ObjectBoxes) -> CenterTerms:
        """Return the terms of the loss, summed over all objects; in full precision, which a light head can afford."""
        weight = next(self.parameters())
        with torch.autocast(weight.device.type, enabled=False):
            maps = self.head(features.detach().to(weight.dtype))
            grid = maps.heat.shape[-1]
            targets = center_targets(truth, len(maps.heat), maps.heat.shape[1], grid, self.image_size / grid)
            return self.loss(maps, targets)


def boxes_of_masks(batch: Batch) -> ObjectBoxes:
    """Return the boxes of a batch's own masks, as of one category."""
    boxes = masks_to_boxes(batch.masks)
    boxes[:, 2:] += 1
    return ObjectBoxes(boxes, batch.object_image, torch.zeros_like(batch.object_image))
