"""The loss of a clip: the sum over every round on every frame whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sam_train.losses.sam_loss import LossTerms, SamLoss, Targets
from sam_train.structures import MaskPrediction


def clip_terms(
    loss: SamLoss, rounds: Mapping[int, Sequence[MaskPrediction]], targets: Mapping[int, Targets]
) -> LossTerms:
    """Return the terms of a clip, summed over objects, frames and rounds, as SAM 2 trains.

    Logits are compared as they are predicted, also where the object score says that there is no object. (The official
    trainer compares the masks of such objects as if all their logits were -1024, so that a wrong score costs 0.25 x
    1024 for each of the object's pixels and its mask learns nothing.)

    Args:
        loss: The loss of one round.
        rounds: Per frame, what was predicted in each round.
        targets: Per frame whose truth is known, from :meth:`SamLoss.targets`.
    """
    terms = [loss(prediction, targets[frame]) for frame in rounds if frame in targets for prediction in rounds[frame]]
    assert terms, "a clip without any frame whose truth is known"
    return LossTerms(*(torch.stack(values).sum() for values in zip(*terms, strict=True)))
