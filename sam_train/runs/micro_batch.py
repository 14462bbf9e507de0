"""How many images, and objects of an image, a step computes at once; found before training from what one takes."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from rich.console import Console
from torch import Tensor

from sam_train.data.loading.settings import Loading
from sam_train.errors import InputError
from sam_train.machine import memory_bytes
from sam_train.structures import Batch
from sam_train.tasks.task import Task

log = logging.getLogger(__name__)

# Of all memory: what a step may take beside the model. A GPU has little else to hold; a machine has loading processes,
# held-out masks and whatever else runs.
_SHARE = {"cuda": 0.85, "cpu": 0.6}
# Memory that a step holds beyond what is kept for the backward pass: results of operations under way, and fragments.
_TRANSIENT = 1.5
_GB = 1e9


class MicroBatch(NamedTuple):
    """How a step is computed.

    Attributes:
        images: Computed at once, at most.
        objects: Of one image decoded at once, at most.
    """

    images: int
    objects: int


class MicroBatchFinder(Callback):
    """Decides before training how a step is computed, and writes it into the run's record.

    A record that says it already, as that of a resumed run does, is left alone.

    Args:
        loading: Its ``micro_batch`` and ``micro_objects`` are the numbers themselves, None for no bound, or ``auto``.
        max_objects: Objects of an image a step.
    """

    def __init__(self, loading: Loading, max_objects: int) -> None:
        self.loading = loading
        self.max_objects = max_objects

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the numbers, once.

        Raises:
            InputError: On every device, if on any not even one object of one image fits.
        """
        task, loading = cast(Task, pl_module), self.loading
        images = task.record.get("micro_batch", loading.micro_batch)
        objects = task.record.get("micro_objects", loading.micro_objects)
        if "auto" in (images, objects):
            task.train()
            trainer.precision_plugin.convert_module(task.to(trainer.strategy.root_device))
            console = Console(soft_wrap=True, highlight=False, quiet=not trainer.is_global_zero)
            with console.status("measuring how much memory a step takes"):
                found, words = find_micro_batch(trainer, task, loading.batch_size, self.max_objects)
            images = found.images if images == "auto" else images
            objects = found.objects if objects == "auto" else objects
            console.print(words, markup=False)
            log.info(words)
        task.record["micro_batch"], task.record["micro_objects"] = images, objects


def find_micro_batch(trainer: Trainer, task: Task, batch_size: int, max_objects: int) -> tuple[MicroBatch, str]:
    """Find the largest parts that fit, and say so in words.

    What an image takes is counted, not watched: the bytes that a step keeps for its backward pass. So the same model,
    settings and machine give the same numbers, whatever else runs.

    Args:
        trainer: Says which devices and precision there are.
        task: On its device.
        batch_size: Images a step.
        max_objects: Objects of an image a step.

    Raises:
        InputError: If not even one object of one image fits.
    """
    device = trainer.strategy.root_device
    budget = _budget(trainer, task)
    objects, needed = max_objects, 0.0
    while objects:
        needed = _step_bytes(trainer, task, task.example(objects))
        if needed <= budget:
            break
        objects //= 2
    images = max(min(batch_size, int(budget / max(needed, 1))), 1)
    found = _agreed(trainer, MicroBatch(images, objects))
    if not found.objects:
        raise InputError(
            f"loader.micro_batch=auto: a step of one image with one object takes {needed / _GB:.2g} GB beside the "
            f"model; there are {max(budget, 0) / _GB:.2g} GB. Try tuning=frozen or tuning.last_blocks=2, "
            "tuning.checkpoint_activations=true, a smaller model.image_size or model, prompts.corrections=0"
        )
    where = "GPU memory" if device.type == "cuda" else "memory"
    words = f"{where}: a step keeps about {needed * found.images / _GB:.2g} GB of {budget / _GB:.3g}"
    if found.images < batch_size:
        words += f", {found.images} of {batch_size} images at once (loader.micro_batch), which changes no gradient"
    if found.objects < max_objects:
        words += f", {found.objects} of {max_objects} objects at once (loader.micro_objects), likewise"
    return found, words


def _budget(trainer: Trainer, task: Task) -> float:
    """Bytes for what a step keeps, on the device."""
    device = trainer.strategy.root_device
    trained = sum(_num_bytes(value) for value in task.parameters() if value.requires_grad)
    held = trained * (4 if trainer.world_size > 1 else 3)  # gradients, AdamW's two means, DDP's copies
    weights = sum(map(_num_bytes, task.parameters()))
    if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # pyright: ignore[reportAttributeAccessIssue]
        held += weights
    if device.type == "cuda":
        total, share = torch.cuda.get_device_properties(device).total_memory, _SHARE["cuda"]
    else:
        total, share = memory_bytes() / trainer.num_devices, _SHARE["cpu"]
    return (share * total - held - weights) / _TRANSIENT


def _num_bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _step_bytes(trainer: Trainer, task: Task, example: Batch) -> float:
    """Count what a step holds at its height for the backward pass; infinite where the device is too small for it."""
    device = trainer.strategy.root_device
    buffers = {name: value.clone() for name, value in task.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), kept_bytes(task) as kept:
            batch = trainer.precision_plugin.convert_input(example.to(device))
            with trainer.precision_plugin.forward_context():
                loss = task.loss_of(batch)
            loss.backward()
        return kept[0] + example.num_bytes()
    except torch.OutOfMemoryError:
        return float("inf")
    finally:
        task.zero_grad(set_to_none=True)
        for name, value in task.named_buffers():
            value.copy_(buffers[name])


class _Kept:
    """A tensor kept for the backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def kept_bytes(task: torch.nn.Module) -> Iterator[list[int]]:
    """Yield a list of one number: the most bytes kept for backward passes at any time, beside the weights."""
    own = {value.untyped_storage().data_ptr() for value in task.parameters()}
    uses: dict[int, int] = {}
    now, highest = 0, [0]

    def drop(place: int, num_bytes: int) -> None:
        nonlocal now
        uses[place] -= 1
        if not uses[place]:
            del uses[place]
            now -= num_bytes

    def pack(tensor: Tensor) -> _Kept:
        nonlocal now
        storage = tensor.untyped_storage()
        place, num_bytes = storage.data_ptr(), storage.nbytes()
        kept = _Kept(tensor)
        if place in own:
            return kept
        if place not in uses:
            now += num_bytes
            highest[0] = max(highest[0], now)
        uses[place] = uses.get(place, 0) + 1
        weakref.finalize(kept, drop, place, num_bytes).atexit = False
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        yield highest


def _agreed(trainer: Trainer, found: MicroBatch) -> MicroBatch:
    """The smallest numbers of all devices, so that all take the same parts."""
    if trainer.world_size == 1:
        return found
    least = torch.tensor(found, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
    return MicroBatch(*least.tolist())
