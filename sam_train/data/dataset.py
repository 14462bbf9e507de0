"""From a source's samples to batches of one image, ready to be collated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from sam_train.data.augmentation import Augmentation
from sam_train.data.seeds import generator_of, object_draws, seed_of
from sam_train.data.source import Source
from sam_train.data.transforms import resize_image
from sam_train.structures import Batch, Preprocessing, Sample

EpochIndex = tuple[int, int]
"""Which epoch, and which image in it. Workers hold no epoch of their own, so they need not be told of a new one."""


class TrainDataset(Dataset[Batch]):
    """Augmented images with a fresh choice of objects each epoch; a function of (seed, epoch, image) alone.

    Args:
        source: The images.
        preprocessing: Of the model that will see them.
        augmentation: What to change at random, or None for nothing.
        max_objects: At most this many objects of an image, chosen anew each epoch.
        min_area: Objects smaller than this in the model's input, in its pixels, are left out.
        seed: Of everything random.
    """

    def __init__(
        self,
        source: Source,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None,
        max_objects: int,
        min_area: float,
        seed: int,
    ) -> None:
        self.source = source
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.max_objects = max_objects
        self.min_area = min_area
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: EpochIndex) -> Batch:
        """One image with at least one object.

        An image without any cannot train a promptable model: the next one of the source takes its place.
        """
        epoch, index = key
        for step in range(len(self)):
            position = (index + step) % len(self)
            sample_id = self.source.ids[position]
            generator = generator_of("choose", sample_id, epoch, self.seed)
            sample = self.source.read(position, partial(self._choose, generator=generator))
            if len(sample.value):
                return self._prepare(sample, epoch)
        raise RuntimeError("no training image has an object")

    def _choose(self, areas: Float[Tensor, "n"], generator: torch.Generator) -> Int[Tensor, "k"]:
        order = torch.randperm(len(areas), generator=generator)
        return order[: self.max_objects].sort().values

    def _prepare(self, sample: Sample, epoch: int) -> Batch:
        original_size = sample.size
        if self.augmentation is None:
            varied = resize_sample(sample, self.preprocessing)
        else:
            varied = self.augmentation(sample, self.preprocessing, seed_of("augment", sample.id, epoch, self.seed))
        masks = varied.masks()
        large = masks.flatten(1).sum(dim=1) >= self.min_area
        if not large.any() and self.augmentation is not None:  # all moved out of sight: show it as it is
            varied = resize_sample(sample, self.preprocessing)
            masks = varied.masks()
            large = masks.flatten(1).sum(dim=1) >= self.min_area
        if not large.any():  # all tiny: the largest stands for them
            large = torch.arange(len(masks)) == masks.flatten(1).sum(dim=1).argmax()
        return to_batch(varied.keep(large), self.preprocessing, original_size, epoch, self.seed)


class EvalDataset(Dataset[Batch]):
    """Images as they are with all their objects, and the objects' masks at the original size.

    Args:
        source: The images.
        preprocessing: Of the model that will see them.
        min_area: Objects smaller than this in the model's input, in its pixels, are left out.
    """

    def __init__(self, source: Source, preprocessing: Preprocessing, min_area: float) -> None:
        self.source = source
        self.preprocessing = preprocessing
        self.min_area = min_area

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Batch:
        sample = self.source.read(index)
        resized = resize_sample(sample, self.preprocessing)
        large = resized.masks().flatten(1).sum(dim=1) >= max(self.min_area, 1)
        batch = to_batch(resized.keep(large), self.preprocessing, sample.size)
        return Batch(**{**vars(batch), "original_masks": (sample.keep(large).masks(),)})


def resize_sample(sample: Sample, preprocessing: Preprocessing) -> Sample:
    """The sample at the size of the un-padded part of the input, its image as the official predictors resize it."""
    image = resize_image(sample.image, preprocessing)
    if image.dtype != torch.uint8:  # batches travel in 8 bit
        image = image.round().clamp(0, 255).to(torch.uint8)
    labels = TF.resize(sample.labels, list(image.shape[-2:]), TF.InterpolationMode.NEAREST_EXACT)
    return Sample(sample.id, image, labels, sample.plane, sample.value)


def to_batch(
    sample: Sample, preprocessing: Preprocessing, original_size: tuple[int, int], *draw_parts: object
) -> Batch:
    """A batch of one image, padded to the model's input; ``draw_parts`` are what else its prompts depend on."""
    height, width = sample.size
    side = preprocessing.image_size
    padding = [0, 0, side - width, side - height]
    return Batch(
        images=TF.pad(sample.image, padding)[None],
        masks=TF.pad(sample.masks(), padding),
        object_image=torch.zeros(len(sample.value), dtype=torch.long),
        valid_size=torch.tensor([[height, width]]),
        original_size=torch.tensor([original_size]),
        draws=object_draws(sample.id, sample.plane, sample.value, *draw_parts),
        ids=(sample.id,),
    )


def collate(batches: Sequence[Batch]) -> Batch:
    """One batch of several, objects packed."""
    counts = [len(batch.images) for batch in batches]
    offsets = [sum(counts[:index]) for index in range(len(counts))]
    originals: list[Bool[Tensor, "p h w"]] = []
    for batch in batches:
        originals.extend(batch.original_masks or ())
    return Batch(
        images=torch.cat([batch.images for batch in batches]),
        masks=torch.cat([batch.masks for batch in batches]),
        object_image=torch.cat([batch.object_image + offset for batch, offset in zip(batches, offsets, strict=True)]),
        valid_size=torch.cat([batch.valid_size for batch in batches]),
        original_size=torch.cat([batch.original_size for batch in batches]),
        draws=torch.cat([batch.draws for batch in batches]),
        ids=tuple(sample_id for batch in batches for sample_id in batch.ids),
        original_masks=tuple(originals) or None,
    )
