"""Rounds of prompting: a simulated person and a model take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from torch import Tensor

from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import PromptSimulator, is_ambiguous
from sam_train.structures import Batch, EncoderState, ImageFeatures, MaskPrediction, Prompts

Decode: TypeAlias = Callable[[ImageFeatures, Prompts, Tensor, bool | Tensor], MaskPrediction]
""":meth:`PromptableModel.decode`, which is what trains, or :meth:`PromptableModel.predict`."""


def encode(model: PromptableModel, batch: Batch) -> ImageFeatures:
    """The features of a batch's images: those it brings, or else computed, from where it is known what comes before."""
    return model.encode_image(_inputs(model, batch)) if batch.features is None else taken_up(model, batch.features)


def taken_up(model: PromptableModel, kept: ImageFeatures | EncoderState) -> ImageFeatures:
    """The features that were kept, or what follows from the encoder's state, as the model computes."""
    parameter = next(model.parameters())
    features = kept.to(parameter.device, parameter.dtype)
    return features if isinstance(features, ImageFeatures) else model.encode_rest(features)


def encode_prefix(model: PromptableModel, batch: Batch) -> ImageFeatures | EncoderState:
    """Of a batch's images what training does not change: all features, or the encoder's state before what trains."""
    return model.encode_prefix(_inputs(model, batch))


def _inputs(model: PromptableModel, batch: Batch) -> Tensor:
    assert batch.images is not None, "a batch has images or features"
    return model.preprocessing.normalize(batch.images, batch.valid_size)


def interact(
    decode: Decode, features: ImageFeatures, batch: Batch, simulator: PromptSimulator
) -> Iterator[tuple[Prompts, MaskPrediction]]:
    """The first prompts with their prediction and one more pair for each correction, as they are made.

    An object prompted by one click alone is asked for three candidates, any other for one, as the official predictors
    advise and SAM 2 trains.
    """
    prompts = simulator.first(batch)
    for number in range(simulator.corrections + 1):
        # Known beforehand of all objects, it spares drawing and comparing the single mask three times.
        multimask = is_ambiguous(prompts) if number == 0 and simulator.clicks_first() else False
        prediction = decode(features, prompts, batch.object_image, multimask)
        yield prompts, prediction
        if number < simulator.corrections:
            prompts = simulator.correct(batch, prompts, prediction, number)
