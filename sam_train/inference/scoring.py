"""Held-out masks against predictions at the images' original size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from sam_train.inference.interaction import encode, interact
from sam_train.metrics.region import region_scores
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import EVALUATION, PromptSimulator
from sam_train.structures import Batch, ImageFeatures, Prompts

# What bounds memory on images with hundreds of objects or millions of pixels, and changes no result:
OBJECTS_AT_ONCE = 64  # decoded together
PIXELS_AT_ONCE = 1 << 25  # of logits at the original size, 128 MB; one object's at least


@dataclass(frozen=True, order=True)
class ObjectScore:
    """How well one object was found from one kind of prompt. Plain values: they travel between processes and files."""

    image: str
    object: int
    prompt: str
    dice: float
    iou: float


class PredictedImage(NamedTuple):
    """The last round's masks of an image's objects at its original size, and the prompts that led to them."""

    masks: Bool[Tensor, "p H W"]
    prompts: Prompts


def predict_image(
    model: PromptableModel, features: ImageFeatures, batch: Batch, image: int, simulator: PromptSimulator
) -> PredictedImage:
    """All rounds for the objects of one image of the batch.

    Raises:
        ValueError: If the image has no objects.
    """
    parts = list(_predict_parts(model, features.image(image), batch.image(image), simulator))
    points, labels = (torch.cat([getattr(part.prompts, name) for part in parts]) for name in ("points", "labels"))
    return PredictedImage(torch.cat([part.masks for part in parts]), Prompts(points, labels))


def _predict_parts(
    model: PromptableModel, features: ImageFeatures, batch: Batch, simulator: PromptSimulator
) -> Iterator[PredictedImage]:
    """All rounds for the objects of a batch of one image, a part of them after the other."""
    height, width = batch.original_size[0].tolist()
    for objects in torch.arange(batch.num_objects, device=batch.masks.device).split(OBJECTS_AT_ONCE):
        *_, (prompts, prediction) = interact(model.predict, features, batch.with_objects(objects), simulator)
        logits = prediction.best().logits.float()
        masks = [
            model.preprocessing.restore_logits(some, (height, width))[:, 0] > 0
            for some in logits.split(max(PIXELS_AT_ONCE // (height * width), 1))
        ]
        yield PredictedImage(torch.cat(masks), Prompts(prompts.points, prompts.labels))


@torch.no_grad()
def score_batch(model: PromptableModel, batch: Batch, protocols: Mapping[str, PromptSimulator]) -> list[ObjectScore]:
    """Every object of the batch by every protocol, against its mask at the original size."""
    assert batch.original_masks is not None, "scores are taken at the original size"
    features = encode(model, batch)
    scores = []
    for image, (sample_id, truth) in enumerate(zip(batch.ids, batch.original_masks, strict=True)):
        for prompt, simulator in protocols.items() if len(truth) else ():
            number = 0
            for part in _predict_parts(model, features.image(image), batch.image(image), simulator):
                region = region_scores(part.masks, truth[number : number + len(part.masks)])
                for dice, iou in zip(region.dice.tolist(), region.iou.tolist(), strict=True):
                    scores.append(ObjectScore(sample_id, number, prompt, dice, iou))
                    number += 1
    return scores


def gather_scores(scores: list[ObjectScore]) -> list[ObjectScore]:
    """Those of all processes, in one order; every process gets them all. What several have scored counts once."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shares: list[list[ObjectScore]] = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(shares, scores)
        scores = [score for share in reversed(shares) for score in share]
    return sorted({(score.image, score.object, score.prompt): score for score in scores}.values())


def mean_scores(scores: Sequence[ObjectScore]) -> dict[str, dict[str, float]]:
    """Per kind of prompt, mean Dice and IoU over objects; the same digits whatever order the scores come in."""
    means: dict[str, dict[str, float]] = {}
    for prompt in EVALUATION:
        of_prompt = [score for score in scores if score.prompt == prompt]
        if not of_prompt:
            continue
        means[prompt] = {
            "dice": math.fsum(score.dice for score in of_prompt) / len(of_prompt),
            "iou": math.fsum(score.iou for score in of_prompt) / len(of_prompt),
        }
    return means
