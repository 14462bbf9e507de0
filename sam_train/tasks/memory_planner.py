"""Fits a run into the device's memory before its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console

from sam_train.data.datamodule import SegmentationData
from sam_train.inference.interaction import encode_prefix
from sam_train.structures import NUM_DRAWS, Batch, InputError
from sam_train.tasks.image import ImageTask
from sam_train.tasks.memory import free_bytes, peak_bytes

Limit = Literal["auto"] | float | None

_GB = 1e9
_REMEDIES = "tuning.checkpoint_activations=true, tuning.last_blocks=4, tuning=frozen, a smaller image_size or model"
_SHARE = 0.85  # of what is free: the rest is for fragments, validation and whatever else runs


class MemoryPlan(NamedTuple):
    """How a step is made so that it fits.

    Attributes:
        images: Computed together, at most; a larger batch comes in parts that are accumulated.
        objects: Of one image, at most.
    """

    images: int
    objects: int


class MemoryPlanner(Callback):
    """Measures small steps before training and makes the run's own fit.

    A batch too large at once comes in parts whose gradients are summed: the numbers stay the same. Only if one image
    with its ``max_objects`` is too much, fewer of its objects train in a step, and the run says so. A resumed run keeps
    the plan it began with.

    Args:
        limit: ``auto`` for what is free, or gigabytes that a step may take beside the model; None measures nothing.
    """

    def __init__(self, limit: Limit) -> None:
        if limit not in ("auto", None) and (isinstance(limit, str) or limit <= 0):
            raise InputError(f"trainer.memory={limit}: auto, gigabytes that a step may take, or null")
        self.limit: Limit = limit
        self._is_done = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Measure, say what was found, and set loaders and trainer accordingly.

        Raises:
            InputError: If not even one object of one image fits.
        """
        if self._is_done:  # validated before training
            return
        self._is_done = True
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(pl_module, ImageTask)
        assert isinstance(data, SegmentationData)
        plan = MemoryPlan(data.loading.batch_size, data.loading.max_objects)
        if "plan" in pl_module.record:
            plan = MemoryPlan(*pl_module.record["plan"])
        elif self.limit is not None:
            plan = self._least(trainer, self._measured(trainer, pl_module, data))
        pl_module.record["plan"] = tuple(plan)
        data.loading = replace(data.loading, max_objects=plan.objects)
        data.parts = -(-data.loading.batch_size // plan.images)
        trainer.accumulate_grad_batches *= data.parts
        if isinstance(trainer.val_check_interval, int):
            trainer.val_check_interval *= data.parts

    def _measured(self, trainer: Trainer, task: ImageTask, data: SegmentationData) -> MemoryPlan:
        """The plan for this process's device."""
        device, loading = trainer.strategy.root_device, data.loading
        trainer.precision_plugin.convert_module(task.to(device))
        if self.limit == "auto":
            processes = trainer.num_devices if device.type == "cpu" else 1
            free = _SHARE * free_bytes(device) / processes
        else:
            assert self.limit is not None
            free = self.limit * _GB
        trained = sum(value.numel() * value.element_size() for value in task.parameters() if value.requires_grad)
        fixed = trained * (4 if trainer.world_size > 1 else 3)  # gradients, AdamW's two means, DDP's copies
        console = Console(soft_wrap=True, highlight=False, quiet=not trainer.is_global_zero)
        with console.status("measuring how much memory a step takes"), _undisturbed(task, device):
            measure = _measurement(trainer, task, data)
            plan, needed = find_plan(measure, loading.batch_size, loading.max_objects, free - fixed)
        what = "GPU memory" if device.type == "cuda" else "memory"
        parts = -(-loading.batch_size // plan.images)
        line = f"{what}: a step takes about {(needed + fixed) / _GB:.2g} GB of {free / _GB:.3g}"
        if parts > 1:
            line += f", its {loading.batch_size} images in {parts} parts, which changes no result"
        if plan.objects < loading.max_objects:
            line += (
                f"; only {plan.objects} of loader.max_objects={loading.max_objects} objects an image fit, and no more "
                f"will train in a step. {_REMEDIES} may let all of them in"
            )
        console.print(line, markup=False)
        return plan

    @staticmethod
    def _least(trainer: Trainer, plan: MemoryPlan) -> MemoryPlan:
        """Of all devices' plans, so that they accumulate alike."""
        if trainer.world_size == 1:
            return plan
        least = torch.tensor(plan, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
        return MemoryPlan(*least.tolist())


def find_plan(
    measure: Callable[[int], float], batch_size: int, max_objects: int, free: float
) -> tuple[MemoryPlan, float]:
    """The largest step that fits.

    Args:
        measure: The bytes that one image with so many objects takes; infinite if it failed for want of memory.
        batch_size: Images asked for.
        max_objects: Objects of each asked for.
        free: Bytes for all of them.

    Returns:
        The plan and the bytes it is thought to take.

    Raises:
        InputError: If one image with one object takes more.
    """
    tried = {1: measure(1)}
    if tried[1] > free:
        raise InputError(
            f"trainer.memory: one image with one object takes {tried[1] / _GB:.2g} GB, but {max(free, 0) / _GB:.2g} GB "
            f"are left for it. {_REMEDIES} may make it fit"
        )
    while (count := max(tried)) < max_objects:
        following = min(4 * count, max_objects) if len(tried) > 1 else 2
        expected = _expected(tried, following)
        if len(tried) > 1 and (expected > free or _expected(tried, max_objects) < free / 2):
            break  # it would fail, or all objects fit with room to spare
        tried[following] = measure(following)
        if tried[following] > free:
            return MemoryPlan(1, count), tried[count]
    objects = max(count for count in range(1, max_objects + 1) if _expected(tried, count) <= free)
    images = max(min(batch_size, int(free / max(_expected(tried, objects), 1))), 1)
    return MemoryPlan(images, objects), images * _expected(tried, objects)


def _expected(tried: dict[int, float], count: int) -> float:
    """On the line through the two largest steps that were tried; objects take no less the more there are."""
    if count in tried or len(tried) == 1:
        return tried[min(count, max(tried))]
    *_, few, many = sorted(tried)
    slope = max(tried[many] - tried[few], 0) / (many - few)
    return tried[many] + slope * (count - many)


def _measurement(trainer: Trainer, task: ImageTask, data: SegmentationData) -> Callable[[int], float]:
    """A function from a number of objects to the bytes that a step of one image takes beside its gradients."""
    device = trainer.strategy.root_device

    def step(batch: Batch) -> None:
        with trainer.precision_plugin.forward_context():
            total = task.loss.total(task.loss_terms(batch))
        total.backward()

    def measure(count: int) -> float:
        batch = trainer.precision_plugin.convert_input(_example(count, data.preprocessing.image_size).to(device))
        if data.cache is not None:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                batch = replace(batch, images=None, features=encode_prefix(task.model, batch))
        try:
            if count == 1:
                step(batch)  # loads libraries, makes the gradients
            return peak_bytes(lambda: step(batch), device)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return float("inf")

    return measure


def _example(num_objects: int, side: int) -> Batch:
    """An image of noise with discs of many sizes on it."""
    generator = torch.Generator().manual_seed(num_objects)
    centre = torch.rand(num_objects, 2, 1, 1, generator=generator) * side
    radius = torch.linspace(side / 32, side / 4, num_objects)[:, None, None]
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    size = torch.tensor([[side, side]])
    return Batch(
        images=torch.randint(0, 256, (1, 3, side, side), generator=generator, dtype=torch.uint8),
        masks=torch.hypot(rows - centre[:, 0], columns - centre[:, 1]) <= radius,
        object_image=torch.zeros(num_objects, dtype=torch.long),
        valid_size=size,
        original_size=size,
        draws=torch.rand(num_objects, NUM_DRAWS, generator=generator),
        ids=("an image of noise",),
    )


@contextmanager
def _undisturbed(task: ImageTask, device: torch.device) -> Iterator[None]:
    """Afterwards buffers, gradients and random numbers are what they were."""
    buffers = {name: value.clone() for name, value in task.named_buffers()}
    task.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    task.zero_grad(set_to_none=True)
    for name, value in task.named_buffers():
        value.copy_(buffers[name])
