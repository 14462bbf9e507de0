"""Held-out masks against predictions at the images' original size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sam_train.inference.interaction import encode, interact
from sam_train.metrics.region import region_scores
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import EVALUATION, PromptSimulator
from sam_train.structures import Batch, ImageFeatures, Prompts

# What bounds memory on images with hundreds of objects or millions of pixels, and changes no result:
OBJECTS_AT_ONCE = 32  # decoded together: what caches hold of a small model's masks
# Of logits at the original size, 128 MB, and eight times as many of masks; one object's at least.
PIXELS_AT_ONCE = 1 << 25

T = TypeVar("T")


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
    parts = [part for _, part in predict_parts(model, features, batch, image, simulator)]
    return PredictedImage(torch.cat([part.masks for part in parts]), Prompts.cat([part.prompts for part in parts]))


def predict_parts(
    model: PromptableModel, features: ImageFeatures, batch: Batch, image: int, simulator: PromptSimulator
) -> Iterator[tuple[Int[Tensor, "k"], PredictedImage]]:
    """The same, some of the image's objects after the others: which they are, and what is found."""
    features, batch = features.image(image), batch.image(image)
    height, width = batch.original_size[0].tolist()
    at_once = max(min(OBJECTS_AT_ONCE, 8 * PIXELS_AT_ONCE // (height * width)), 1)
    for start in range(0, batch.num_objects, at_once):
        objects = torch.arange(start, min(start + at_once, batch.num_objects), device=batch.masks.device)
        *_, (prompts, prediction) = interact(model.predict, features, batch.with_objects(objects), simulator)
        logits = prediction.best().logits.float()
        masks = [
            model.preprocessing.restore_logits(some, (height, width))[:, 0] > 0
            for some in logits.split(max(PIXELS_AT_ONCE // (height * width), 1))
        ]
        yield objects, PredictedImage(torch.cat(masks), Prompts(prompts.points, prompts.labels))


@torch.no_grad()
def score_batch(model: PromptableModel, batch: Batch, protocols: Mapping[str, PromptSimulator]) -> list[ObjectScore]:
    """Every object of the batch by every protocol, against its mask at the original size."""
    assert batch.originals is not None, "scores are taken at the original size"
    features = encode(model, batch)
    scores = []
    for image, truth in enumerate(batch.originals):
        for prompt, simulator in protocols.items():
            for objects, found in predict_parts(model, features, batch, image, simulator):
                region = region_scores(found.masks, truth.keep(objects).masks())
                for number, *values in zip(*map(Tensor.tolist, (objects, *region)), strict=True):
                    scores.append(ObjectScore(batch.ids[image], number, prompt, *values))
    return scores


def gather(own: list[T]) -> list[T]:
    """What all processes have, those of the first last; every process gets it all."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    shares: list[list[T]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(shares, own)
    return [item for share in reversed(shares) for item in share]


def gather_scores(scores: list[ObjectScore]) -> list[ObjectScore]:
    """Those of all processes, in one order; every process gets them all. What several have scored counts once."""
    return sorted({(score.image, score.object, score.prompt): score for score in gather(scores)}.values())


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
