"""The loss of a clip: the sum over every round on every frame whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sam_train.losses.sam_loss import LossTerms, SamLoss, Targets
from sam_train.structures import MaskPrediction


class FrameTargets(NamedTuple):
    """Truth on a frame.

    Attributes:
        targets: Of the objects whose masks are known there, from :meth:`SamLoss.targets`.
        objects: Their places among the P objects; None for all of them.
    """

    targets: Targets
    objects: Int[Tensor, "k"] | None = None


def clip_terms(
    loss: SamLoss, rounds: Mapping[int, Sequence[MaskPrediction]], truth: Mapping[int, FrameTargets]
) -> LossTerms:
    """Return the terms of a clip, summed over objects, frames and rounds, as SAM 2 trains.

    Logits are compared as they are predicted, also where the object score says that there is no object. (The official
    trainer compares the masks of such objects as if all their logits were -1024, so that a wrong score costs 0.25 x
    1024 for each of the object's pixels and its mask learns nothing.)

    Args:
        loss: The loss of one round.
        rounds: Per frame, what was predicted in each round.
        truth: Per frame where something is known.
    """
    terms = [
        loss(prediction if objects is None else prediction.of(objects), targets)
        for frame, predictions in rounds.items()
        if frame in truth
        for targets, objects in [truth[frame]]
        for prediction in predictions
    ]
    assert terms, "a clip without any frame whose truth is known"
    return LossTerms(*(torch.stack(values).sum() for values in zip(*terms, strict=True)))
