"""Variants of a source's images that a model sees."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Dataset

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.seeds import seed_of
from sam_train.data.loading.transforms import resize_sample
from sam_train.data.sources.base import ImageSet, no_objects
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Batch, Sample

ViewIndex = tuple[int, int]
"""The view, and the index of the image."""

PLAIN = -1
"""The view without augmentation; those from 0 on are augmented."""

PLAIN_NAME = "plain"


class Views(Dataset[Batch]):
    """Images of a source, augmented or not.

    The pixels of a view are a function of (seed, image, view) alone, whatever objects are read with the image. As a
    dataset, views have no objects.

    Args:
        images: The images.
        preprocessing: Of the model.
        augmentation: Random changes; None for none.
        seed: Seed of everything random.
        number: Number of views of an image, of which the first is plain; None for a new view in each epoch.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        number: int | None = 1,
    ) -> None:
        self.images = images
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        self.number = number

    def __len__(self) -> int:
        return len(self.images)

    def of_epoch(self, epoch: int) -> int:
        """Return the view that an epoch shows."""
        if self.augmentation is None:
            return PLAIN
        return epoch if self.number is None else epoch % self.number + PLAIN

    def vary(self, sample: Sample, view: int, alike: str | None = None) -> Sample:
        """Return a sample as a view shows it, at the size of the un-padded part of the input.

        Args:
            sample: The image and some of its objects.
            view: The view.
            alike: What is changed in the same way has this name in common; by default the sample's id.
        """
        if view == PLAIN:
            return resize_sample(sample, self.preprocessing)
        assert self.augmentation is not None
        return self.augmentation(sample, self.preprocessing, seed_of("augment", alike or sample.id, view, self.seed))

    def name(self, index: int, view: int) -> str:
        """Return everything that determines a view's pixels, except for the preprocessing."""
        return view_name(self.images.ids[index], self.images.fingerprint(index), self.variant(view))

    def variant(self, view: int) -> str:
        """Return everything that tells a view from others of the same image."""
        return PLAIN_NAME if view == PLAIN else f"{self.augmentation}, seed {self.seed}, view {view}"

    def indices(self) -> Iterator[ViewIndex]:
        """Yield every view of every image; their number must be fixed."""
        assert self.number is not None
        views = range(PLAIN, PLAIN + (1 if self.augmentation is None else self.number))
        return ((view, index) for index in range(len(self)) for view in views)

    def __getitem__(self, key: ViewIndex) -> Batch:
        view, index = key
        sample = self.images.read(index, no_objects)
        return to_batch(self.vary(sample, view), self.preprocessing, sample.size)


def view_name(identifier: str, fingerprint: str, variant: str) -> str:
    """Return the name of an image's variant among features that are kept."""
    return f"{identifier!r}: {fingerprint}: {variant}"
