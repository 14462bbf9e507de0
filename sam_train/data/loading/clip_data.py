"""The loaders of a run on clips, and on images beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain, islice, zip_longest

import torch
from torch.utils.data import ConcatDataset, Subset

from sam_train.data.loading.clip_batch import collate_clips
from sam_train.data.loading.clip_dataset import ClipChoice, HeldOutClip, HeldOutClips, TrainClips
from sam_train.data.loading.clip_sources import TrainSources
from sam_train.data.loading.datamodule import MOST_ENCODED, SegmentationData
from sam_train.data.loading.dataset import EvalDataset, FeatureReader, TrainDataset
from sam_train.data.loading.loader import BatchLoader, ResumableLoader
from sam_train.data.loading.sampler import BatchTurns, TrainBatches
from sam_train.data.loading.settings import Loading
from sam_train.data.loading.share import Share
from sam_train.data.loading.views import Views
from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.several import SeveralImages
from sam_train.data.sources.video.clips import ClipSet
from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing


class ClipData(SegmentationData):
    """Training and held-out clips, and images if there are several sources; everything else is as for images.

    Every batch is of one source: parts of clips, or images, which are clips of one frame.

    Args:
        splits: The clips, or clips and images of several sources.
        preprocessing: Of the model.
        loading: Settings of loading; of a batch's ``batch_size`` clips or images.
        seed: Seed of everything random.
        choice: Which part of a clip trains.
        max_val_clips: At most this many clips, of each source its share, are validated during training; None for all.
        max_val_frames: And of each this many frames.

    Attributes:
        sources: Of each split the clips or images of each source, by its name; ``""`` if there is only one source.
    """

    def __init__(
        self,
        splits: Mapping[Split, ImageSet],
        preprocessing: Preprocessing,
        loading: Loading,
        seed: int,
        choice: ClipChoice,
        max_val_clips: int | None = None,
        max_val_frames: int | None = None,
    ) -> None:
        made = {id(images): _by_source(images, split) for split, images in splits.items()}  # one may serve twice
        self.sources = {split: made[id(images)] for split, images in splits.items()}
        whole = {id(images): _together(made[id(images)], images.weights) for images in splits.values()}
        super().__init__({split: whole[id(images)] for split, images in splits.items()}, preprocessing, loading, seed)
        self.choice = choice
        self.max_val_clips = max_val_clips
        self.max_val_frames = max_val_frames

    def train_dataloader(self) -> ResumableLoader:
        """Return batches of parts of clips or of images: the same stream on any number of devices."""
        parts, share, loading = self._train_parts(), Share.own(), self.loading
        sizes = [len(part) for part in parts]
        orders = [
            partial(torch.randperm, len(part)) if isinstance(part, TrainClips) else part.images.shuffled
            for part in parts
        ]
        weights = [self.splits["train"].weights[name] for name in self.sources["train"] if self.splits["train"].weights]
        turns = BatchTurns(sizes, orders, loading.batch_size * share.world_size, weights)
        number, order = (turns.num_images, turns) if len(parts) > 1 else (sizes[0], orders[0])
        batches = TrainBatches(number, loading.batch_size, self.seed, share.rank, share.world_size, order)
        dataset = TrainSources(parts, self.seed)
        return ResumableLoader(dataset, batches, merge=collate_clips, **self._options(persistent=True))

    def val_dataloader(self) -> BatchLoader:
        """Return this device's share of the validation clips, which are read when they are followed."""
        return self._loader_of(ConcatDataset(self._val_clips()))

    def eval_dataloader(self, split: Split) -> BatchLoader:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return this device's share of a split's clips, whole, and of its images with the masks of all objects."""
        images = (
            EvalDataset(SeveralImages({name: one}, {}), self.preprocessing, self.loading.min_area)
            for name, one in self.images(split).items()
        )
        return self._loader_of(ConcatDataset([*self._held_out(split), *images]))

    def views(self) -> list[Views]:
        """Return the frames and images that training and validation see, whose features a cache may keep."""
        held_out = (clips.views(self.preprocessing) for clips in self._val_clips())
        return [*(part.views for part in self._train_parts()), *held_out]

    @property
    def num_encoded(self) -> int:
        """Number of frames encoded at once where nothing trains: at most as many as in training, and few anyway."""
        return min(self.loading.batch_size * self.choice.num_frames, MOST_ENCODED)

    def clips(self, split: Split) -> dict[str, ClipSet]:
        """Return the clips of a split by source."""
        return {name: one for name, one in self.sources[split].items() if isinstance(one, ClipSet)}

    def images(self, split: Split) -> dict[str, ImageSet]:
        """Return the images of a split that are in no clip, by source."""
        return {name: one for name, one in self.sources[split].items() if not isinstance(one, ClipSet)}

    def num_held_out(self, split: Split) -> int:
        """Return the number of a split's clips and images."""
        clips = sum(len(one.clips) for one in self.clips(split).values())
        return clips + sum(len(one) for one in self.images(split).values())

    def first_clips(self, split: Split, number: int) -> list[HeldOutClip]:
        """Return some clips of a split, whole; of several sources in turn."""
        in_turn = chain.from_iterable(zip_longest(*map(_each, self._held_out(split))))
        return [*islice((clip for clip in in_turn if clip is not None), number)]

    def _train_parts(self) -> list[TrainClips | TrainDataset]:
        return [
            self._train_clips(one) if isinstance(one, ClipSet) else self._train_dataset(one)
            for one in self.sources["train"].values()
        ]

    def _train_clips(self, clips: ClipSet) -> TrainClips:
        loading = self.loading
        return TrainClips(
            clips, self.preprocessing, self.choice, loading.augmentation, loading.min_area, self.seed, self.cache
        )

    def _val_clips(self) -> list[HeldOutClips]:
        limit = self.max_val_clips and -(-self.max_val_clips // len(self.clips("val")))
        return self._held_out("val", limit, self.max_val_frames, self.cache)

    def _held_out(
        self,
        split: Split,
        max_clips: int | None = None,
        max_frames: int | None = None,
        cache: FeatureReader | None = None,
    ) -> list[HeldOutClips]:
        return [HeldOutClips(clips, max_clips, max_frames, cache, name) for name, clips in self.clips(split).items()]

    def _loader_of(self, dataset: ConcatDataset) -> BatchLoader:
        share = Share.own()
        own = Subset(dataset, range(share.rank % len(dataset), len(dataset), share.world_size))
        return BatchLoader(own, merge=lambda items: items[0], num_workers=0)


def _each(clips: HeldOutClips) -> Iterator[HeldOutClip]:
    return (clips[index] for index in range(len(clips)))


def _by_source(images: ImageSet, split: Split) -> dict[str, ImageSet]:
    """Return the clips of each source, or its images if it has none.

    Raises:
        InputError: If no source has clips.
    """
    found: dict[str, ImageSet] = {}
    for name, one in (images.by_source() or {"": images}).items():
        try:
            found[name] = one.as_clips() or one
        except InputError as error:
            raise InputError(f"data.parts.{name}: {error}" if name else str(error)) from error
    if not any(isinstance(one, ClipSet) for one in found.values()):
        raise InputError(
            f"task=video: data are images, not clips (split {split}); use data=davis, sav, coco_video or toy_video, or "
            "volumes (data=volume, data=npz); with data=mixture one such source is enough"
        )
    return found


def _together(sources: Mapping[str, ImageSet], weights: Mapping[str, float]) -> ImageSet:
    return sources[""] if "" in sources else SeveralImages(sources, weights)
