"""Held-out masks against predictions at the images' original size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sam_train.inference.interaction import encode, interact
from sam_train.metrics.base import MaskPairs, Metric
from sam_train.metrics.table import column_of
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import Batch, ImageFeatures, Prompts, Sample

if TYPE_CHECKING:
    import pyarrow as pa

# What bounds memory on images with hundreds of objects or millions of pixels, and changes no result:
OBJECTS_AT_ONCE = 32  # decoded together: what caches hold of a small model's masks
# Of logits at the original size, 128 MB, and eight times as many of masks; one object's at least.
PIXELS_AT_ONCE = 1 << 25


class PredictedImage(NamedTuple):
    """The last round's masks of an image's objects at its original size, and the prompts that led to them."""

    masks: Bool[Tensor, "p H W"]
    prompts: Prompts


def predict_image(
    model: PromptableModel, features: ImageFeatures, batch: Batch, image: int, simulator: PromptSimulator
) -> PredictedImage:
    """Run all rounds for the objects of one image of the batch.

    Raises:
        ValueError: If the image has no objects.
    """
    parts = [part for _, part in predict_parts(model, features, batch, image, simulator)]
    return PredictedImage(torch.cat([part.masks for part in parts]), Prompts.cat([part.prompts for part in parts]))


def predict_parts(
    model: PromptableModel, features: ImageFeatures, batch: Batch, image: int, simulator: PromptSimulator
) -> Iterator[tuple[Int[Tensor, "k"], PredictedImage]]:
    """Yield the same a few objects at a time: their indices in the image, and what is found."""
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


def mask_pairs(predicted: Bool[Tensor, "P h w"], truth: Sample, objects: Int[Tensor, "P"]) -> MaskPairs:
    """Pair predicted masks with those of an image's objects, at its original size; ignored pixels are in neither."""
    masks = truth.keep(objects).masks()
    if truth.ignore is not None:
        predicted, masks = predicted & ~truth.ignore, masks & ~truth.ignore
    return MaskPairs(predicted, masks, truth.spacing)


@torch.no_grad()
def score_batch(
    models: Mapping[str, PromptableModel],
    batch: Batch,
    protocols: Mapping[str, PromptSimulator],
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
        One row for each object and protocol, see :mod:`sam_train.metrics.table`; with the object's area in pixels
        and, where the data say so, its category and the image's group.
    """
    import pyarrow as pa

    assert batch.originals is not None, "scores are taken at the original size"
    features = encode_all(models, batch)
    columns: dict[str, list[object]] = {}
    for image, truth in enumerate(batch.originals):
        areas = truth.areas().tolist()
        for protocol, simulator in protocols.items():
            rows: dict[str, list[object]] = {
                "image": [batch.ids[image]] * len(areas),
                "object": truth.value.tolist(),
                "prompt": [protocol] * len(areas),
                "group": [truth.group or batch.ids[image]] * len(areas),
                "category": list(truth.category or [None] * len(areas)),
                "area": areas,
            }
            for name, model in models.items():
                for objects, found in predict_parts(model, features[name], batch, image, simulator):
                    pairs = mask_pairs(found.masks, truth, objects)
                    for metric in metrics:
                        rows.setdefault(column_of(metric, name), []).extend(metric(pairs).tolist())
            for column, values in rows.items():
                columns.setdefault(column, []).extend(values)
    return pa.table(columns)


def encode_all(models: Mapping[str, PromptableModel], batch: Batch) -> dict[str, ImageFeatures]:
    """Encode a batch's images by each model, once for all models whose encoders are one and the same.

    Encoders are the same where they hold the same tensors, as an untuned and a tuned model with a frozen encoder do
    (:meth:`sam_train.runs.run.Run.tuned`).
    """
    features: dict[tuple[int, ...], ImageFeatures] = {}
    encoded = {}
    for name, model in models.items():
        key = tuple(parameter.data_ptr() for parameter in model.encoding_parameters())
        if key not in features:
            features[key] = encode(model, batch)
        encoded[name] = features[key]
    return encoded
