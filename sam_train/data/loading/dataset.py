"""From a source's samples to batches of one image, ready to be collated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.boxes import boxes_in
from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.crowds import with_crowds_ignored, without_crowds
from sam_train.data.loading.seeds import generator_of
from sam_train.data.loading.views import PLAIN, Views
from sam_train.data.sources.base import ImageSet
from sam_train.data.sources.skipping import ForgivingImages, SkippedError
from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Batch, EncoderState, ImageFeatures, Sample

EpochIndex = tuple[int, int]
"""Which epoch, and which image in it. Workers hold no epoch of their own, so they need not be told of a new one."""


class FeatureReader(Protocol):
    """A store of image features, such as :class:`sam_train.data.cache.embedding_cache.EmbeddingCache`.

    Attributes:
        views: Number of views of each training image.
    """

    @property
    def views(self) -> int: ...  # noqa: D102

    def read(self, name: str, original_size: tuple[int, int]) -> ImageFeatures | EncoderState:
        """Read the features of the view of this name, whose image has this height and width."""
        ...


class TrainDataset(Dataset[Batch]):
    """Augmented images with a new choice of objects in each epoch: a function of (seed, epoch, image) alone.

    Args:
        images: The images.
        preprocessing: Of the model.
        augmentation: What to change at random, or None for nothing.
        max_objects: At most this many objects of an image, chosen anew each epoch.
        min_area: Objects smaller than this in the model's input, in its pixels, are left out.
        seed: Seed of everything random.
        cache: Store of the images' features, which also says how many views images have; None to load images.
        with_boxes: Whether the boxes of all objects come beside the masks of those that were chosen.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None,
        max_objects: int,
        min_area: float,
        seed: int,
        cache: FeatureReader | None = None,
        with_boxes: bool = False,
    ) -> None:
        self.images = images
        self.with_boxes = with_boxes
        self.views = Views(images, preprocessing, augmentation, seed, cache.views if cache else None)
        self.max_objects = max_objects
        self.min_area = min_area
        self.seed = seed
        self.cache = cache
        self._empty: set[int] = set()  # images without objects, so that each is read once only

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: EpochIndex) -> Batch:
        """Return one image with at least one object.

        An image without objects cannot train a promptable model, and one that is left out no model: another image,
        drawn at random, takes its place.

        Raises:
            InputError: If no image has an object.
        """
        epoch, index = key
        for position in self._candidates(epoch, index):
            if position in self._empty:
                continue
            generator = generator_of("choose", self.images.ids[position], epoch, self.seed)
            choose = partial(self._choose, position=position, generator=generator)
            try:
                sample = without_crowds(self.images.read(position, choose, with_image=self.cache is None))
                batch = self._prepare(position, sample, epoch)
            except SkippedError:
                continue
            if batch is not None:
                return batch
        side = self.views.preprocessing.image_size
        raise InputError(
            f"loader.min_area={self.min_area}: no training image has an object that is left at any size: none covers a "
            f"pixel of the model's input of {side} x {side}. Give a larger model.image_size or larger objects"
        )

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        """Yield the image asked for and then the others in random order, first those of the same source."""
        yield index
        generator = generator_of("replace", self.images.ids[index], epoch, self.seed)
        alike = self.images.alike(index)
        yield from (alike[row] for row in torch.randperm(len(alike), generator=generator).tolist())
        yield from (row for row in range(len(self)) if row not in alike)

    def _choose(self, shares: Float[Tensor, "n"], position: int, generator: torch.Generator) -> Int[Tensor, "k"]:
        """Choose objects at random; objects that are probably too small only where there are too few others."""
        if not len(shares):
            self._empty.add(position)
        order = torch.randperm(len(shares), generator=generator)
        is_small = shares[order] * self.views.preprocessing.image_size**2 < self.min_area  # false for nan
        order = torch.cat([order[~is_small], order[is_small]])
        return order[: self.max_objects].sort().values

    def _prepare(self, index: int, sample: Sample, epoch: int) -> Batch | None:
        """Return the view of an epoch, or None if it has no object."""
        if not len(sample.value):
            return None
        smallest = max(self.min_area, 1)
        view = self.views.of_epoch(epoch)
        varied = self.views.vary(sample, view)
        areas = varied.areas()
        if view != PLAIN and not (areas >= smallest).any():  # all moved out of sight: show it as it is
            view = PLAIN
            varied = self.views.vary(sample, view)
            areas = varied.areas()
        large = areas >= smallest
        if not large.any():  # all tiny: the largest stands for them
            large = (torch.arange(len(areas)) == areas.argmax()) & (areas > 0)
        if not large.any():
            return None
        batch = to_batch(varied.keep(large), self.views.preprocessing, sample.size, epoch, self.seed)
        if self.with_boxes:  # read once more: which masks train, and how, is as without
            batch = replace(batch, everything=boxes_in(self.views, index, view))
        if self.cache is None:
            return batch
        try:
            return replace(batch, features=self.cache.read(self.views.name(index, view), sample.size))
        except InputError:
            if isinstance(self.images, ForgivingImages) and self.images.is_left_out(index):  # as the cache was filled
                return None
            raise


class EvalDataset(Dataset[Batch]):
    """Images without augmentation, all their objects, and the objects' masks at the original size.

    Args:
        images: The images.
        preprocessing: Of the model.
        min_area: Objects smaller than this in the model's input, in its pixels, are left out.
        cache: Store of the images' features, which then come beside the images; None for images alone.
    """

    def __init__(
        self, images: ImageSet, preprocessing: Preprocessing, min_area: float, cache: FeatureReader | None = None
    ) -> None:
        self.images = images
        self.views = Views(images, preprocessing)
        self.min_area = min_area
        self.cache = cache

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        sample = with_crowds_ignored(self.images.read(index))
        resized = self.views.vary(sample, PLAIN)
        large = resized.areas() >= max(self.min_area, 1)
        batch = to_batch(resized.keep(large), self.views.preprocessing, sample.size)
        features = self.cache.read(self.views.name(index, PLAIN), sample.size) if self.cache else None
        blank = sample.image.new_empty(0, *sample.size)
        original = replace(sample.keep(large), image=blank, group=self.images.group(index))
        return replace(batch, originals=(original,), num_too_small=(int((~large).sum()),), features=features)
