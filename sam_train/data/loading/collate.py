"""From samples to batches of one image, and from these to larger ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms.v2 import functional as TF

from sam_train.centers import ObjectBoxes
from sam_train.data.loading.given_prompts import given_or_none, pack_prompts
from sam_train.data.loading.seeds import object_draws
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Batch, Sample


def to_batch(
    sample: Sample, preprocessing: Preprocessing, original_size: tuple[int, int], *draw_parts: object
) -> Batch:
    """Return a batch of one image, padded to the model's input.

    A sample without its image gives a batch without images, to which features belong.

    Args:
        sample: At the size of the un-padded part of the input.
        preprocessing: Of the model.
        original_size: Height and width of the image before it was resized.
        draw_parts: What the randomness of prompts depends on beside image and object.
    """
    height, width = sample.size
    side = preprocessing.image_size
    padding = [0, 0, side - width, side - height]
    padded = replace(
        sample,
        image=TF.pad(sample.image, padding),
        labels=TF.pad(sample.labels, padding),
        ignore=TF.pad(sample.ignore[None], padding)[0] if sample.ignore is not None and sample.ignore.any() else None,
    )
    return Batch(
        images=padded.image[None] if len(sample.image) else None,
        masks=padded.masks(),
        object_image=torch.zeros(len(sample.value), dtype=torch.long),
        valid_size=torch.tensor([[height, width]]),
        original_size=torch.tensor([original_size]),
        draws=object_draws(sample.id, sample.value, *draw_parts),
        ids=(sample.id,),
        ignore=None if padded.ignore is None else padded.ignore[None],
        given=given_or_none(sample.prompts),
    )


def collate(batches: Sequence[Batch]) -> Batch:
    """Return one batch of several, objects packed. All have images or none has, and likewise features."""
    originals = [original for batch in batches for original in batch.originals or ()]
    num_too_small = [number for batch in batches for number in batch.num_too_small or ()]
    counts = [len(batch.ids) for batch in batches]
    offsets = [sum(counts[:index]) for index in range(len(counts))]
    images = [batch.images for batch in batches if batch.images is not None]
    features = [batch.features for batch in batches if batch.features is not None]
    return Batch(
        images=_pack(images) if images else None,
        masks=_pack([batch.masks for batch in batches]),
        object_image=torch.cat([batch.object_image + offset for batch, offset in zip(batches, offsets, strict=True)]),
        valid_size=torch.cat([batch.valid_size for batch in batches]),
        original_size=torch.cat([batch.original_size for batch in batches]),
        draws=torch.cat([batch.draws for batch in batches]),
        ids=tuple(sample_id for batch in batches for sample_id in batch.ids),
        originals=tuple(originals) or None,
        num_too_small=tuple(num_too_small) or None,
        ignore=_pack_ignore([batch.ignore for batch in batches], counts),
        given=pack_prompts([batch.given for batch in batches], [batch.num_objects for batch in batches]),
        features=type(features[0]).cat(features) if features else None,  # pyright: ignore[reportArgumentType]
        everything=_pack_boxes([batch.everything for batch in batches if batch.everything is not None], counts),
    )


def _pack_boxes(parts: Sequence[ObjectBoxes], counts: Sequence[int]) -> ObjectBoxes | None:
    """Return the boxes of all images; each part is of as many as ``counts`` says."""
    if not parts:
        return None
    offsets = [sum(counts[:index]) for index in range(len(counts))]
    return ObjectBoxes(
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.object_image + offset for part, offset in zip(parts, offsets, strict=True)]),
        torch.cat([part.category for part in parts]),
        _pack_ignore([part.ignore for part in parts], counts),
    )


def _pack_ignore(parts: Sequence[Tensor | None], counts: Sequence[int]) -> Tensor | None:
    """Return the ignored pixels of all images, each part of as many as ``counts`` says; None where none has any."""
    some = next((part for part in parts if part is not None), None)
    if some is None:
        return None
    sizes = [(count, *some.shape[1:]) for count in counts]
    return _pack([some.new_zeros(size) if part is None else part for part, size in zip(parts, sizes, strict=True)])


def _pack(parts: Sequence[Tensor]) -> Tensor:
    """Return the rows of all parts, in a loading process straight in the memory shared with the trainer."""
    rows = [row for part in parts for row in part]
    return default_collate(rows) if rows else torch.cat(list(parts))
