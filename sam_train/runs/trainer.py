"""Lightning's trainer from a run's settings; what it would refuse in its own words is told in ours."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import CSVLogger

from sam_train.errors import InputError
from sam_train.runs.settings import TRAINER
from sam_train.tasks.checkpoint_file import WholeCheckpoints


def make_trainer(settings: Mapping[str, Any], callbacks: Sequence[Callback], logger: Any, folder: Path) -> Trainer:
    """Make the trainer of a run.

    Args:
        settings: Arguments of :class:`lightning.Trainer` that differ from :data:`TRAINER`.
        callbacks: In the order in which they run.
        logger: As the trainer's; curves go into the folder's ``metrics`` beside it.
        folder: Of the run.

    Raises:
        InputError: If a setting is refused; names it.
    """
    quiet_lightning()
    given = {**TRAINER, **settings}
    _require_sense(given)
    if given["accelerator"] == "auto":
        given["accelerator"] = "cuda" if torch.cuda.is_available() else "cpu"
    is_cuda = given["accelerator"] in ("cuda", "gpu")
    if given["precision"] == "auto":
        bf16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        given["precision"] = "bf16-mixed" if bf16 else "32-true"
    plugins = [WholeCheckpoints(), *cluster()]
    try:
        trainer = Trainer(
            **given,
            callbacks=list(callbacks),
            logger=_with_curves(logger, folder),
            plugins=plugins,
            default_root_dir=folder,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(_refusal(error, given)) from error
    if trainer.world_size > 1 and "strategy" not in settings:
        raise InputError(f"trainer.devices={settings.get('devices')}: for several devices add trainer=ddp")
    return trainer


def _with_curves(logger: Any, folder: Path) -> list[Any]:
    """Add the table of the curves that ``report.html`` shows, unless it is there."""
    given = list(logger) if isinstance(logger, list | tuple) else [logger] if logger else []
    return given if any(isinstance(one, CSVLogger) for one in given) else [*given, CSVLogger(folder, name="metrics")]


def _require_sense(given: Mapping[str, Any]) -> None:
    """Refuse settings that Lightning takes and that train badly or for ever."""
    if str(given["precision"]) in ("16-true", "bf16-true"):
        raise InputError(
            f"trainer.precision={given['precision']} rounds the weights themselves, and small updates are lost; "
            "bf16-mixed keeps them whole and is as fast"
        )
    if given["max_steps"] in (None, -1) and given["max_epochs"] in (None, -1):
        raise InputError("trainer.max_steps=-1: training would never end; give trainer.max_steps or trainer.max_epochs")
    if given["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise InputError(
            f"trainer.accelerator={given['accelerator']}: PyTorch finds no GPU here (torch.cuda.is_available() is "
            "false); leave trainer.accelerator out to train on the CPU, or install a driver that fits this PyTorch"
        )


def _refusal(error: Exception, given: Mapping[str, Any]) -> str:
    """Say which setting Lightning refuses, by the name that its message has."""
    message = " ".join(str(error).split())
    named = [name for name, value in given.items() if name in message or (value and repr(value) in message)]
    name = max(named, key=len) if named else "accelerator" if "ccelerator" in message else ""
    which = f"trainer.{name}={given[name]}" if name else "trainer"
    reason = message[:300].rstrip(".")
    return f"{which}: Lightning refuses this ({reason}); sam-train --help lists the trainer's settings"


def cluster() -> list[Any]:
    """Lightning's view of SLURM, where that starts the processes, without checkpoints of its own.

    These would be taken up unasked by whatever is started next in their folder, past all that resuming checks.
    """
    is_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if is_slurm else []


def starts_processes(trainer: Trainer) -> bool:
    """Whether the trainer begins the program once more for each further device, as torchrun and SLURM do themselves."""
    if trainer.world_size == 1:
        return False
    environment = trainer.strategy.cluster_environment  # pyright: ignore[reportAttributeAccessIssue]
    return not environment.creates_processes_externally


def quiet_lightning() -> None:
    """Silence what Lightning says of choices that are made on purpose here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # tips, devices not used, max_steps reached
    for message in (
        ".*does not have many workers",  # the loader's num_workers leaves a processor to the model
        ".*smaller than the logging interval",  # steps count here, not epochs
        ".*in eval mode at the start of training",  # frozen parts
        ".*exists and is not empty",  # the run's folder
        ".*find_unused_parameters=True was specified",  # which prompts come is a matter of chance
        ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", message)
