"""Fits a run into the device's memory before its first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from rich.console import Console
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sam_train.data.loading.datamodule import Loading, SegmentationData
from sam_train.errors import InputError
from sam_train.inference.interaction import encode_prefix
from sam_train.structures import NUM_DRAWS, Batch
from sam_train.tasks.image import ImageTask
from sam_train.tasks.memory import free_bytes, peak_bytes

Limit = Literal["auto"] | float | None

_GB = 1e9
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

    A batch too large at once comes in parts whose gradients are summed: the same gradient, but for batch norms that
    train (MobileSAM's, with ``tuning=full``) and see one part at a time. Only if one image with its ``max_objects`` is
    too much, fewer of its objects train in a step, and the run says so. A resumed run keeps the plan it began with.

    Args:
        limit: ``auto`` for what is free, or gigabytes that a step may take beside the model; None measures nothing.
    """

    def __init__(self, limit: Limit) -> None:
        if limit not in ("auto", None) and (isinstance(limit, (str, bool)) or limit <= 0):
            raise InputError(f"trainer.memory={limit}: auto, gigabytes that a step may take, or null")
        self.limit: Limit = limit
        self._is_done = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Measure, say what was found, and set loaders and trainer accordingly.

        Raises:
            InputError: On every device, if on any not even one object of one image fits.
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
            plan = self._measured(trainer, pl_module, data)
        pl_module.record["plan"] = tuple(plan)
        data.loading = replace(data.loading, max_objects=plan.objects)
        data.parts = -(-data.loading.batch_size // plan.images)
        trainer.accumulate_grad_batches *= data.parts
        for setting in ("val_check_interval", "limit_train_batches"):  # counted in batches
            if isinstance(value := getattr(trainer, setting), int):
                setattr(trainer, setting, value * data.parts)

    def _measured(self, trainer: Trainer, task: ImageTask, data: SegmentationData) -> MemoryPlan:
        """The plan that fits all devices."""
        device, loading = trainer.strategy.root_device, data.loading
        trainer.precision_plugin.convert_module(task.to(device))
        if self.limit == "auto":
            processes = trainer.num_devices if device.type == "cpu" else 1
            free = _SHARE * free_bytes(device) / processes
        else:
            assert self.limit is not None
            free = self.limit * _GB
        held = _held_bytes(trainer, task)
        console = Console(soft_wrap=True, highlight=False, quiet=not trainer.is_global_zero)
        try:
            with console.status("measuring how much memory a step takes"), _undisturbed(task, device):
                measure = _measurement(trainer, task, data)
                plan, needed = find_plan(measure, loading.batch_size, loading.max_objects, free - held)
        except _TooLittleError as error:
            plan, needed = MemoryPlan(0, 0), error.needed
        plan = self._least(trainer, plan)
        remedies = f"Try {', '.join(_remedies(task))}"
        if not plan.images:
            wants = "more than there is" if math.isinf(needed) else f"{(needed + held) / _GB:.2g} GB"
            raise InputError(
                f"trainer.memory: a step of one image with one object takes {wants}, of it {held / _GB:.2g} GB for "
                f"gradients and averages of what trains; {free / _GB:.2g} GB can be had. {remedies}"
            )
        what = "GPU memory" if device.type == "cuda" else "memory"
        line = f"{what}: a step takes about {(needed + held) / _GB:.2g} GB of {free / _GB:.3g}"
        line += _consequences(plan, loading, task)
        console.print(f"{line}. {remedies} to have all" if plan.objects < loading.max_objects else line, markup=False)
        return plan

    @staticmethod
    def _least(trainer: Trainer, plan: MemoryPlan) -> MemoryPlan:
        """Of all devices' plans, so that they accumulate alike and none waits for one that gave up."""
        if trainer.world_size == 1:
            return plan
        least = torch.tensor(plan, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
        return MemoryPlan(*least.tolist())


def _held_bytes(trainer: Trainer, task: nn.Module) -> int:
    """What a run holds beside weights and activations."""
    trained = sum(_num_bytes(value) for value in task.parameters() if value.requires_grad)
    held = trained * (4 if trainer.world_size > 1 else 3)  # gradients, AdamW's two means, DDP's copies
    if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # pyright: ignore[reportAttributeAccessIssue]
        held += sum(_num_bytes(value) for value in task.parameters())
    return held


def _num_bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _consequences(plan: MemoryPlan, loading: Loading, task: ImageTask) -> str:
    """What a plan that is not the whole batch at once means for the run."""
    text, parts = "", -(-loading.batch_size // plan.images)
    if parts > 1:
        norms = any(isinstance(module, _BatchNorm) and module.training for module in task.modules())
        means = f"; batch norms that train see {plan.images} at a time" if norms else ", which changes no gradient"
        text = f", its {loading.batch_size} images in {parts} parts{means}"
    if plan.objects < loading.max_objects:
        text += f"; only {plan.objects} of loader.max_objects={loading.max_objects} objects of an image train in a step"
    return text


def _remedies(task: ImageTask) -> list[str]:
    """Settings that make a step smaller and are not made yet."""
    remedies = ["a smaller model.image_size or model"]
    if task.simulator.corrections:
        remedies.append("prompts.corrections=0")
    if any(parameter.requires_grad for parameter in task.model.image_encoder.parameters()):
        remedies = ["tuning.checkpoint_activations=true", "tuning.last_blocks=4", "tuning=frozen", *remedies]
    return remedies


class _TooLittleError(Exception):
    """One object of one image needs more than there is."""

    def __init__(self, needed: float) -> None:
        super().__init__(needed)
        self.needed = needed


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
        _TooLittleError: If one image with one object takes more.
    """
    tried = {1: measure(1)}
    if tried[1] > free:
        raise _TooLittleError(tried[1])
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
        try:
            batch = trainer.precision_plugin.convert_input(_example(count, data.preprocessing.image_size).to(device))
            if data.cache is not None:
                with torch.no_grad(), trainer.precision_plugin.forward_context():
                    batch = replace(batch, images=None, features=encode_prefix(task.model, batch))
            if count == 1:
                step(batch)  # loads libraries, makes the gradients
            return peak_bytes(lambda: step(batch), device) + batch.num_bytes()
        except torch.cuda.OutOfMemoryError:
            return math.inf

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
