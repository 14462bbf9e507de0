"""What callbacks, caches and runs know of a task, be it on images or on videos."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningModule
from PIL import Image
from torch import Tensor

from sam_train.metrics.base import Metric
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import Batch


class Task(LightningModule):
    """A model, what it learns from and how it is scored.

    Attributes:
        model: What trains.
        record: Plain values that checkpoints carry, enough to build the model again.
        protocols: Kinds of prompt that validation scores, by name.
        metrics: What validation measures; each is logged as ``val/<metric>`` and ``val/<metric>_<prompt>``.
    """

    model: PromptableModel
    record: dict[str, Any]
    protocols: Mapping[str, PromptSimulator]
    metrics: Sequence[Metric]

    @abstractmethod
    def loss_of(self, batch: Batch) -> Tensor:
        """Compute the loss of a batch, summed over its objects and rounds of prompts, with its graph."""

    @abstractmethod
    def example(self, num_objects: int) -> Batch:
        """Make a batch of one image of noise with so many objects, by which a step can be measured before training."""

    @abstractmethod
    def pictures(self, batch: Batch) -> list[Image.Image]:
        """Draw what the model finds in each image of a validation batch that has objects."""
