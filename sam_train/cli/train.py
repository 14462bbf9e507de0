"""``sam-train``: fine-tune, then show on held-out masks what it gained."""

from __future__ import annotations

import logging
import math
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from sam_train.cli.compose import run

if TYPE_CHECKING:
    from lightning import Trainer
    from torch import Tensor

    from sam_train.data.loading.datamodule import SegmentationData

FREE = ("loader.num_workers", "data.root", "data.check", "model.weights")
"""What a resumed run may have otherwise: who loads, and where what is known by its contents lies."""


def main() -> None:
    """The command line."""
    run("train", train)


def train(config: DictConfig) -> None:
    """Fine-tune a model as configured; leaves checkpoints, ``report.json`` and pictures in the run's folder."""
    on_signal = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _train(config)
    finally:  # or the next run of a sweep would have a failed one's Ctrl-C and go on in this one's wandb run
        for number, handler in on_signal.items():
            signal.signal(number, handler)
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()


def _train(config: DictConfig) -> None:
    import torch
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import instantiate
    from rich.console import Console

    from sam_train.cli.build import base_model, fingerprint, known_images, record, segmentation_data, tuned_model
    from sam_train.cli.evaluate import report_on
    from sam_train.errors import InputError
    from sam_train.tasks.image import ImageTask
    from sam_train.tuning.surgery import trained_table

    _quiet()
    _make_absolute(config)
    is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if is_sweep and config.resume is not None:
        raise InputError(f"resume={config.resume}: a sweep cannot go on with one run; leave out -m or resume")
    # What is quickly known to be wrong is told before what takes time.
    simulator, loss, optimization = (instantiate(config[part]) for part in ("prompts", "loss", "optim"))
    base = fingerprint(base_model(config))
    model = tuned_model(config)
    trainer = _trainer(config)
    if is_sweep and _starts_processes(trainer):
        raise InputError(
            f"a sweep cannot train on {trainer.world_size} devices at once: each of its processes would begin the "
            "sweep anew. Give trainer.devices=1, or one command for each run"
        )
    data = segmentation_data(config, model, {"train", "val", config.evaluation.split}, trainer.is_global_zero)
    images = known_images(data.splits) if trainer.is_global_zero else {}
    description = record(config, base, images)
    description["devices"] = trainer.world_size
    resumed = _resume_point(config, description)
    torch.manual_seed(config.seed)
    keep_base = config.model.weights == "random"
    task = ImageTask(model, simulator, loss, optimization, description, keep_base)
    if trainer.is_global_zero:
        Console().print(trained_table(model))
        _tell_data(data)
    if resumed is None:
        trainer.validate(task, data, verbose=False)
    trainer.fit(task, data, ckpt_path=resumed, weights_only=True)
    run_dir = Path(trainer.strategy.broadcast(HydraConfig.get().runtime.output_dir))  # that of the first process
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")  # with callbacks.best=null nothing keeps it
    checkpoint = Path(best or run_dir / "last.ckpt")
    try:
        report_on(checkpoint, config, data, config.evaluation, run_dir, trainer.strategy.root_device)
    except KeyboardInterrupt:
        message = f"stopped; the model is {checkpoint}, and sam-evaluate checkpoint={checkpoint} makes the report"
        Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)
        raise SystemExit(1) from None


def _tell_data(data: SegmentationData) -> None:
    """Say how many images there are for what, and if training validates some of them only."""
    from rich.console import Console

    numbers = {split: len(source) for split, source in data.splits.items()}
    limit = data.loading.max_val_images
    some = f"; of val {limit} during training (loader.max_val_images)" if (limit or math.inf) < numbers["val"] else ""
    counted = ", ".join(f"{number} {split}" for split, number in numbers.items())
    Console(highlight=False).print(f"images: {counted}{some}", markup=False)


def _make_absolute(config: DictConfig) -> None:
    """Have weights and data found again from any other folder."""
    from sam_train.checkpoints.reading import SHIPPED

    for part, key in (("model", "weights"), ("data", "root")):
        name = OmegaConf.select(config, f"{part}.{key}")
        if isinstance(name, str) and name not in SHIPPED and Path(name).expanduser().exists():
            config[part][key] = str(Path(name).expanduser().absolute())


def _starts_processes(trainer: Trainer) -> bool:
    """Whether it begins the program once more for each further device; torchrun and SLURM have done so themselves."""
    if trainer.world_size == 1:
        return False
    environment = trainer.strategy.cluster_environment  # pyright: ignore[reportAttributeAccessIssue]
    return not environment.creates_processes_externally


def _quiet() -> None:
    """Silence what Lightning says of choices that are made on purpose here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # tips, devices not used, max_steps reached
    for message in (
        ".*does not have many workers",  # the loader's num_workers leaves a processor to the model
        ".*smaller than the logging interval",  # steps count here, not epochs
        ".*in eval mode at the start of training",  # frozen parts
        ".*exists and is not empty",  # the run's folder
        ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", message)


def _trainer(config: DictConfig) -> Trainer:
    import torch
    from hydra.utils import instantiate

    from sam_train.errors import InputError
    from sam_train.tasks.callbacks import LastValidation
    from sam_train.tasks.checkpoint_file import WholeCheckpoints
    from sam_train.tasks.memory_planner import MemoryPlanner

    settings: dict[str, Any] = {"plugins": [WholeCheckpoints(), *cluster()]}
    if str(config.trainer.precision) in ("16-true", "bf16-true"):
        raise InputError(
            f"trainer.precision={config.trainer.precision} rounds the weights themselves, and small updates are lost; "
            "bf16-mixed keeps them whole and is as fast"
        )
    if config.trainer.max_steps == -1 and config.trainer.max_epochs in (None, -1):
        raise InputError("trainer.max_steps=-1: training would never end; give trainer.max_steps or trainer.max_epochs")
    if config.trainer.accelerator == "auto":
        settings["accelerator"] = "cuda" if torch.cuda.is_available() else "cpu"
    is_cuda = settings.get("accelerator", config.trainer.accelerator) in ("cuda", "gpu")
    if config.trainer.precision == "auto":
        bf16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        settings["precision"] = "bf16-mixed" if bf16 else "32-true"
    callbacks: list[Any] = [LastValidation()]
    callbacks += [instantiate(callback) for callback in config.callbacks.values() if callback is not None]
    if "cache" in config:
        callbacks.append(instantiate(config.cache))
    callbacks.append(MemoryPlanner(config.trainer.memory))
    lightning_settings = {name: value for name, value in config.trainer.items() if name != "memory"}
    logger = instantiate(config.logger, **_wandb_run(config))
    trainer = instantiate(lightning_settings, callbacks=callbacks, logger=logger, **settings)
    if trainer.world_size > 1 and "strategy" not in lightning_settings:
        raise InputError(f"trainer.devices={config.trainer.devices}: for several devices add trainer=ddp")
    return trainer


def cluster() -> list[Any]:
    """Lightning's view of SLURM, where that starts the processes, without checkpoints of its own.

    These would be taken up unasked by whatever is started next in their folder, past all that resuming checks.
    """
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    is_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if is_slurm else []


def _wandb_run(config: DictConfig) -> dict[str, str]:
    """The identifier of the wandb run that a resumed run goes on in; nothing for other loggers.

    After a crash the charts have the steps since ``last.ckpt`` twice.
    """
    if config.resume is None or not config.logger._target_.endswith("WandbLogger"):
        return {}
    files = Path(config.resume, "wandb").glob("*run-*_*-*/run-*.wandb")  # the folders' names begin with their time
    newest = max(files, key=lambda file: file.parent.name.removeprefix("offline-"), default=None)
    return {} if newest is None else {"id": newest.stem.removeprefix("run-")}


def _resume_point(config: DictConfig, description: dict[str, Any]) -> Path | None:
    """The checkpoint to go on from, if it belongs to this command.

    Raises:
        InputError: If there is none, or it was made with other settings of what the model is.
    """
    if config.resume is None:
        return None
    from sam_train.cli.build import read_checkpoint
    from sam_train.errors import InputError

    path = Path(config.resume) / "last.ckpt"
    if not path.is_file():
        raise InputError(f"resume={config.resume}: no last.ckpt there; name the folder of an interrupted run")
    then = read_checkpoint(path)["sam_train"]
    if "images" not in then:
        raise InputError(f"resume={config.resume}: that run was begun with an earlier version; start anew")
    now = OmegaConf.to_container(config, resolve=True)
    assert isinstance(now, dict)
    for part in ("model", "tuning", "prompts", "loss", "optim", "seed", "data", "loader", "callbacks"):
        before, after = then["config"][part], now[part]
        if part == "callbacks":  # of these, only a moving average changes what is trained and kept
            part, before, after = "callbacks.average", before.get("average"), after.get("average")
        differing = [
            f"{name} was {old}, is {new}" for name, old, new in _differences(part, before, after) if name not in FREE
        ]
        if differing:
            raise InputError(
                f"resume={config.resume}: that run had other settings: {'; '.join(differing)}. Repeat the command it "
                f"was started with (settings in {config.resume}/.hydra/overrides.yaml)"
            )
    if config.model.weights != "random" and then["base"] != description["base"]:
        raise InputError(f"resume={config.resume}: model.weights={config.model.weights} are not the run's own")
    _require_same_training(config, then["config"])
    _require_same_images(config, then["images"], description["images"])
    if then["devices"] != description["devices"]:
        raise InputError(
            f"resume={config.resume}: that run had {then['devices']} devices in all, this command has "
            f"{description['devices']}; give it as many (trainer=ddp, trainer.devices, trainer.num_nodes)"
        )
    description["plan"] = then["plan"]
    return path


def _differences(name: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """What two parts of a configuration do not have in common: each key with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before | after:
            yield from _differences(f"{name}.{key}", before.get(key), after.get(key))
    elif before != after:
        yield name, before, after


def _require_same_training(config: DictConfig, then: dict[str, Any]) -> None:
    """Refuse what would change the steps still to come, or end before them, without a word.

    Raises:
        InputError: If it does.
    """
    from sam_train.errors import InputError

    for name in ("max_steps", "max_epochs", "accumulate_grad_batches", "gradient_clip_val", "precision"):
        before, after = then["trainer"][name], config.trainer[name]
        if name.startswith("max_"):
            first, last = (math.inf if end in (None, -1) else end for end in (before, after))
            is_fine = last >= first  # to go on for longer is no accident
        else:
            is_fine = before == after
        if not is_fine:
            raise InputError(
                f"resume={config.resume}: that run had trainer.{name}={before}, this command has {after}; repeat the "
                "command it was started with (trainer.max_steps and max_epochs may be larger)"
            )
    for name in ("views", "dtype"):  # none without a cache
        before, after = (OmegaConf.select(OmegaConf.create(settings), f"cache.{name}") for settings in (then, config))
        if before != after:
            raise InputError(f"resume={config.resume}: that run had cache.{name}={before}, this command has {after}")


def _require_same_images(config: DictConfig, then: dict[str, Tensor], now: dict[str, Tensor]) -> None:
    """Refuse images added, changed or taken away: they would be split anew, and training images be called held out.

    Raises:
        InputError: If they are not those that the run began with.
    """
    from sam_train.errors import InputError

    for split, after in now.items():
        before = then[split]
        if len(before) != len(after) or not bool((before == after).all()):
            raise InputError(
                f"resume={config.resume}: the {split} images are not those of then ({len(before)} now {len(after)}, or "
                "other contents). Put them back, or start anew with model.weights= of that run's sam-export"
            )


if __name__ == "__main__":
    main()
