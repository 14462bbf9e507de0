"""``sam-train``: fine-tune, then show on held-out masks what it gained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sam_train.cli.compose import run


def main() -> None:
    """Run the command line."""
    run("train", train)


def train(config: DictConfig) -> None:
    """Fine-tune a model as configured; leaves checkpoints, ``report.json`` and pictures in the run's folder."""
    try:
        _train(config)
    finally:  # or the next run of a sweep would go on in this one's wandb run
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()


def _train(config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import instantiate
    from rich.console import Console

    from sam_train.cli.build import callbacks_of, settings_of
    from sam_train.errors import InputError
    from sam_train.runs.evaluate import evaluate
    from sam_train.runs.fit import fit

    is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if is_sweep and config.resume is not None:
        raise InputError(f"resume={config.resume}: a sweep cannot go on with one run; leave out -m or resume")
    settings = settings_of(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    logger = instantiate(config.logger, **_wandb_run(config))
    run = fit(settings, folder, callbacks_of(config), logger, resume=config.resume is not None, is_alone=is_sweep)
    try:
        evaluate(run, evaluation=settings.evaluation)
    except KeyboardInterrupt:
        message = (
            f"stopped; the model is {run.checkpoint}, and sam-evaluate checkpoint={run.checkpoint} makes the report"
        )
        Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)
        raise SystemExit(1) from None


def _wandb_run(config: DictConfig) -> dict[str, Any]:
    """Return the identifier of the wandb run that a resumed run goes on in; nothing for other loggers.

    After a crash the charts have the steps since ``last.ckpt`` twice.
    """
    if config.resume is None or not config.logger._target_.endswith("WandbLogger"):
        return {}
    files = Path(config.resume, "wandb").glob("*run-*_*-*/run-*.wandb")  # the folders' names begin with their time
    newest = max(files, key=lambda file: file.parent.name.removeprefix("offline-"), default=None)
    return {} if newest is None else {"id": newest.stem.removeprefix("run-")}


if __name__ == "__main__":
    main()
