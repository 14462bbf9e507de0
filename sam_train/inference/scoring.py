"""Held-out masks against predictions at the images' original size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sam_train.inference.interaction import encode, interact
from sam_train.inference.predictor import Predictor
from sam_train.inference.regions import Cleaning
from sam_train.inference.restoring import PIXELS_AT_ONCE, full_masks
from sam_train.inference.score_columns import Rows
from sam_train.metrics.base import MaskPairs, Metric
from sam_train.metrics.region import IOU
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.protocols import Protocol
from sam_train.structures import Batch, ImageFeatures, MaskPrediction, Prompts, Sample

if TYPE_CHECKING:
    import pyarrow as pa

OBJECTS_AT_ONCE = 32  # decoded together: what caches hold of a small model's masks; it changes no result


class Round(NamedTuple):
    """A round of prompting some objects of an image.

    Attributes:
        model: That was prompted.
        size: Height and width of the image.
        prompts: What was given so far.
        prediction: What the model says.
    """

    model: PromptableModel
    size: tuple[int, int]
    prompts: Prompts
    prediction: MaskPrediction

    def restored(self) -> PredictedImage:
        """Return the masks at the image's original size."""
        best = self.prediction.best()
        masks = full_masks(best.logits, self.model.preprocessing, self.size, Cleaning())[:, 0]
        prompts = Prompts(self.prompts.points, self.prompts.labels)
        return PredictedImage(masks, best.iou[:, 0].float(), prompts)


class PredictedImage(NamedTuple):
    """Masks of some objects of an image at its original size, and what led to them.

    Attributes:
        masks: Of the candidate that the model itself thinks best.
        iou: Its predicted IoU.
        prompts: Points and boxes given so far, in the frame of the model's input.
    """

    masks: Bool[Tensor, "p H W"]
    iou: Float[Tensor, "p"]
    prompts: Prompts


def predict_image(
    model: PromptableModel, features: ImageFeatures, batch: Batch, image: int, protocol: Protocol
) -> PredictedImage:
    """Prompt the objects of one image of the batch, for as many rounds as the protocol scores.

    Raises:
        ValueError: If the image has no object that the protocol can prompt.
    """
    parts = [part for _, part in predict_parts(model, features, batch, image, protocol)]
    masks, iou = torch.cat([part.masks for part in parts]), torch.cat([part.iou for part in parts])
    return PredictedImage(masks, iou, Prompts.cat([part.prompts for part in parts]))


def predict_parts(
    model: PromptableModel, features: ImageFeatures, batch: Batch, image: int, protocol: Protocol
) -> Iterator[tuple[Int[Tensor, "k"], PredictedImage]]:
    """Yield the same a few objects at a time: their indices in the image, and what is found."""
    for objects, rounds in predict_rounds(model, features, batch, image, protocol):
        *_, last = islice(rounds, protocol.num_rounds)
        yield objects, last.restored()


def predict_rounds(
    model: PromptableModel, features: ImageFeatures, batch: Batch, image: int, protocol: Protocol
) -> Iterator[tuple[Int[Tensor, "k"], Iterator[Round]]]:
    """Yield what is found round after round, a few objects of an image at a time."""
    features, one = features.image(image), batch.image(image)
    prompted = protocol.prompted(one)
    height, width = one.original_size[0].tolist()
    at_once = max(min(OBJECTS_AT_ONCE, 8 * PIXELS_AT_ONCE // (height * width)), 1)
    decode = Predictor(model).decode_features
    for objects in protocol.objects(one).split(at_once):
        if len(objects):
            rounds = interact(decode, features, prompted.with_objects(objects), protocol.simulator)
            yield objects, (Round(model, (height, width), *found) for found in rounds)


def mask_pairs(predicted: Bool[Tensor, "P h w"], truth: Sample, objects: Int[Tensor, "P"]) -> MaskPairs:
    """Pair predicted masks with those of an image's objects, at its original size; ignored pixels are in neither."""
    masks = truth.keep(objects).masks()
    if truth.ignore is not None:
        predicted, masks = predicted & ~truth.ignore, masks & ~truth.ignore
    return MaskPairs(predicted, masks, truth.spacing)


def score_batch(
    models: Mapping[str, PromptableModel],
    batch: Batch,
    protocols: Mapping[str, Protocol],
    metrics: Sequence[Metric],
) -> pa.Table:
    """Score every object of a batch by every protocol, against its mask at the original size.

    Args:
        models: By name, which the names of their columns begin with; ``""`` for a single one. Models that share an
            image encoder in which nothing trains share its features.
        batch: With the original masks, on the models' device.
        protocols: Kinds of prompt by name.
        metrics: What to measure.

    Returns:
        One row for each object and protocol, see :class:`Rows`.
    """
    rows = Rows(metrics)
    add_scores(rows, models, batch, protocols)
    return rows.table()


@torch.no_grad()
def add_scores(
    rows: Rows, models: Mapping[str, PromptableModel], batch: Batch, protocols: Mapping[str, Protocol]
) -> None:
    """Add what :func:`score_batch` finds to rows."""
    assert batch.originals is not None, "scores are taken at the original size"
    for image, truth in enumerate(batch.originals):
        one = batch.image(image)  # one by one, so that no digit depends on what else is in a batch
        chosen = {name: objects for name, protocol in protocols.items() if len(objects := protocol.objects(one))}
        features = encode_all(models, one) if chosen else {}
        for name, objects in chosen.items():
            rows.begin(one.ids[0], truth.keep(objects), name)
            for model_name, model in models.items():
                for some, rounds in predict_rounds(model, features[model_name], one, 0, protocols[name]):
                    _score_rounds(rows, model_name, truth, some, rounds, protocols[name])


def _score_rounds(
    rows: Rows,
    model: str,
    truth: Sample,
    objects: Int[Tensor, "k"],
    rounds: Iterator[Round],
    protocol: Protocol,
) -> None:
    curve: list[list[float]] = []
    for number, one in enumerate(rounds, start=1):
        is_scored = number == protocol.num_rounds
        if not (is_scored or protocol.has_curve):
            continue
        found = one.restored()
        pairs = mask_pairs(found.masks, truth, objects)
        if protocol.has_curve:
            curve.append(IOU(pairs).tolist())
        if is_scored:
            rows.add(model, pairs, found.iou.tolist())
    if protocol.has_curve:
        rows.add_curves(model, [list(of_object) for of_object in zip(*curve, strict=True)])


def encode_all(models: Mapping[str, PromptableModel], batch: Batch) -> dict[str, ImageFeatures]:
    """Encode a batch's images by each model, once for all models whose encoders are one and the same.

    Encoders are the same where they hold the same tensors, as an untuned and a tuned model with a frozen encoder do
    (:meth:`sam_train.runs.run.Run.models`).
    """
    features: dict[tuple[int, ...], ImageFeatures] = {}
    encoded = {}
    for name, model in models.items():
        key = tuple(parameter.data_ptr() for parameter in model.encoding_parameters())
        if key not in features:
            features[key] = encode(model, batch)
        encoded[name] = features[key]
    return encoded
