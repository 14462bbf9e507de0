"""How images are loaded: settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from sam_train.data.loading.augmentation import Augmentation
from sam_train.limits import check_limits
from sam_train.machine import num_processors


@dataclass(frozen=True)
class Loading:
    """Settings of loading.

    Attributes:
        batch_size: Images of one step on each device.
        max_objects: Objects of an image that train in one step, chosen anew each epoch; None for as many as the data
            source suggests.
        micro_batch: Images of a batch whose gradient is computed at once; None for all. Fewer take less memory and more
            time, for the same gradient. ``auto`` finds what fits.
        micro_objects: Objects of an image that are decoded at once, likewise.
        min_area: Objects with fewer pixels than this in the model's input are left out, in training and evaluation.
        max_val_images: At most this many of the validation images are used during training, always the same; None for
            all. The final report always uses all.
        num_workers: Loading processes of each device; None for as many as there are spare processors, up to 8.
        augmentation: Changes to training images; None for none.
    """

    batch_size: int = 4
    max_objects: int | None = None
    micro_batch: int | Literal["auto"] | None = "auto"
    micro_objects: int | Literal["auto"] | None = "auto"
    min_area: float = 16.0
    max_val_images: int | None = 200
    num_workers: int | None = None
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        check_limits("loader", vars(self))

    def workers(self, num_devices: int) -> int:
        """Return the number of loading processes of each device, where this many devices share the machine."""
        if self.num_workers is not None:
            return self.num_workers
        has_own_share = os.environ.get("SLURM_NTASKS_PER_NODE") == str(num_devices)  # one task of SLURM for each
        return max(1, min(8, num_processors() // (1 if has_own_share else num_devices) - 1))
