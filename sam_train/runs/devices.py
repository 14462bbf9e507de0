"""Several processes that evaluate together, each on a device of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch

from sam_train.errors import InputError
from sam_train.runs.trainer import cluster, quiet_lightning

T = TypeVar("T")


def start_processes(devices: int, accelerator: str = "auto") -> torch.device:
    """Start a process for each device, or join those that torchrun or SLURM started; return this process's device.

    Raises:
        InputError: If there are not so many devices.
    """
    from lightning import Fabric

    quiet_lightning()
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator in ("gpu", "cuda") and (found := torch.cuda.device_count()) < devices:
        raise InputError(f"devices={devices}: PyTorch finds {found} GPUs here; give as many, or accelerator=cpu")
    slurm = cluster()
    world = int(os.environ.get("SLURM_NTASKS" if slurm else "WORLD_SIZE", 1))
    local = devices if slurm else int(os.environ.get("LOCAL_WORLD_SIZE", devices))  # of this machine
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(world // local, 1),
        strategy="ddp" if max(world, local) > 1 else "auto",
        plugins=slurm,
    )
    fabric.launch()
    return fabric.device


def is_first() -> bool:
    """Tell whether this process is the only one or the first of several."""
    return not (
        torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank()
    )


def as_first_says(ask: Callable[[], T]) -> T:
    """Return in every process what the first process answers.

    Raises:
        InputError: In every process, if the first raises one.
    """
    answer: list[T | InputError | None] = [None]
    if is_first():
        try:
            answer[0] = ask()
        except InputError as error:
            answer[0] = error
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(answer, src=0)
    if isinstance(answer[0], InputError):
        raise answer[0]
    return answer[0]  # pyright: ignore[reportReturnType]
