"""The loaders of a run."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import Subset

from sam_train.data.loading.dataset import EvalDataset, FeatureReader, TrainDataset
from sam_train.data.loading.loader import BatchLoader, ResumableLoader
from sam_train.data.loading.sampler import TrainBatches
from sam_train.data.loading.settings import Loading
from sam_train.data.loading.share import Share
from sam_train.data.loading.views import Views
from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.preprocessing import Preprocessing

MOST_ENCODED = 8  # images at once in evaluation: a GPU has enough to do, and each comes with all its objects


def _leave_process_group(worker: int) -> None:
    """Have signals to the group, as a cluster sends at a job's end, reach the process that saves, not this one."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


class SegmentationData(LightningDataModule):
    """Training and held-out images for the model that a :class:`Preprocessing` belongs to.

    Args:
        splits: The images.
        preprocessing: Of the model.
        loading: Settings of loading.
        seed: Seed of everything random.
        with_boxes: Whether training images come with the boxes of all their objects.

    Attributes:
        cache: Where training and validation read features from; None to have images encoded in every step.
    """

    def __init__(
        self,
        splits: Mapping[Split, ImageSet],
        preprocessing: Preprocessing,
        loading: Loading,
        seed: int,
        with_boxes: bool = False,
    ) -> None:
        super().__init__()
        self.with_boxes = with_boxes
        self.splits = splits
        self.preprocessing = preprocessing
        self.loading = loading
        self.seed = seed
        self.cache: FeatureReader | None = None

    def train_dataloader(self) -> ResumableLoader:
        """Return batches of augmented images: the same stream on any number of devices."""
        dataset = self._train_dataset()
        share = Share.own()
        size = self.loading.batch_size
        images = dataset.images
        batches = TrainBatches(
            images.epoch_size, size, self.seed, share.rank, share.world_size, shuffle=images.shuffled
        )
        return ResumableLoader(dataset, batches, **self._options(persistent=True))

    def val_dataloader(self) -> BatchLoader:
        """Return batches of this device's share of the validation images."""
        return self._eval_dataloader(self._val_dataset())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copy from pinned memory without waiting for work that is queued on the device."""
        return batch.to(device, non_blocking=True)

    def eval_dataset(self, split: Split) -> EvalDataset:
        """Return a split without augmentation."""
        return EvalDataset(self.splits[split], self.preprocessing, self.loading.min_area)

    def eval_dataloader(self, split: Split, seen: Collection[str] = ()) -> BatchLoader:
        """Return batches of this device's share of a split, without the images of the ids in ``seen``."""
        return self._eval_dataloader(self.eval_dataset(split), seen)

    def views(self) -> list[Views]:
        """Return the variants of images that training and validation see, whose features a cache may keep."""
        return [self._train_dataset().views, self._val_dataset().views]

    @property
    def num_encoded(self) -> int:
        """Number of images encoded at once where nothing trains: at most as many as in training, and few anyway."""
        return min(self.loading.batch_size, MOST_ENCODED)

    @property
    def num_workers(self) -> int:
        """Number of loading processes of this device."""
        return self.loading.workers(self.trainer.num_devices if self.trainer else 1)  # the devices of this machine

    def _train_dataset(self, images: ImageSet | None = None) -> TrainDataset:
        return TrainDataset(
            self.splits["train"] if images is None else images,
            self.preprocessing,
            self.loading.augmentation,
            self.loading.max_objects or DataSource.default_objects,
            self.loading.min_area,
            self.seed,
            self.cache,
            self.with_boxes,
        )

    def _val_dataset(self) -> EvalDataset:
        source, limit = self.splits["val"], self.loading.max_val_images
        some = source if limit is None else source.some(limit)
        return EvalDataset(some, self.preprocessing, self.loading.min_area, self.cache)

    def _eval_dataloader(self, dataset: EvalDataset, seen: Collection[str] = ()) -> BatchLoader:
        share = Share.own()
        left = (
            [index for index, name in enumerate(dataset.images.ids) if name not in seen]
            if seen
            else range(len(dataset))
        )
        # Every device has one at least, be it another's: Lightning leaves validation out where there is nothing, and
        # the others would wait for it.
        own = left[share.rank % max(len(left), 1) :: share.world_size]
        # One image a batch: with all its objects that is enough, and no score depends on what it is batched with.
        return BatchLoader(Subset(dataset, own), 1, **self._options(persistent=False))

    def _options(self, persistent: bool) -> dict[str, Any]:
        num_workers = self.num_workers
        return {
            "num_workers": num_workers,
            "worker_init_fn": _leave_process_group,
            "persistent_workers": persistent and num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }
