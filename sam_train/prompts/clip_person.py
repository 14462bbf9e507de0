"""A simulated person who prompts objects in a clip, as SAM 2 trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from sam_train.preprocessing import valid_region
from sam_train.prompts.sampling import random_points
from sam_train.prompts.simulator import FIRST_DRAWS, PromptSimulator
from sam_train.structures import NUM_DRAWS, Batch, MaskPrediction, PointLabel, Prompts

Kind = Literal["mask", "point", "box"]

_SIMULATORS = {"mask": PromptSimulator(point=1), "point": PromptSimulator(point=1), "box": PromptSimulator(box=1)}


class ClipPerson:
    """Knows the truth of a clip; all randomness comes from the objects' own draws (:attr:`Batch.draws`).

    Args:
        frames: Per frame, the truth.
        kind: What is given first: masks, one click anywhere on the object, or a box.
    """

    def __init__(self, frames: Sequence[Batch], kind: Kind) -> None:
        self.frames = frames
        self.kind = kind
        self.simulator = _SIMULATORS[kind]

    def first(self, frame: int) -> Prompts | Bool[Tensor, "P S S"]:
        """Return the first prompts on a frame; of an object that is not there one click on what is not the object."""
        batch = self.frames[frame]
        if self.kind == "mask":
            return batch.masks
        prompts = self.simulator.first(batch)
        absent = ~batch.masks.flatten(1).any(dim=1)
        if not absent.any():
            return prompts
        inside = valid_region(batch.valid_size, batch.masks.shape[-1])[batch.object_image]
        points, labels = prompts.points.clone(), torch.where(absent[:, None], PointLabel.EMPTY.value, prompts.labels)
        points[:, 0] = torch.where(absent[:, None], random_points(inside, batch.draws[:, 5]), points[:, 0])
        labels[:, 0] = torch.where(absent, PointLabel.BACKGROUND.value, labels[:, 0])
        return replace(prompts, points=points, labels=labels)

    def correct(self, frame: int, prompts: Prompts | None, shown: MaskPrediction) -> Prompts:
        """Return the prompts so far and a click anywhere in what is wrong."""
        batch = self.frames[frame]
        if prompts is None:
            num_objects = len(batch.masks)
            prompts = Prompts(shown.logits.new_zeros(num_objects, 0, 2), batch.object_image.new_zeros(num_objects, 0))
        number = prompts.labels.shape[1] % (NUM_DRAWS - FIRST_DRAWS)
        return replace(self.simulator.correct(batch, prompts, shown, number), masks=None, has_mask=None)
