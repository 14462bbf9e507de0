"""``sam-evaluate``: a checkpoint beside the model it came from, on held-out masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from sam_train.cli.compose import run
from sam_train.cli.overrides import choices

if TYPE_CHECKING:
    from sam_train.data.sources.base import DataSource
    from sam_train.runs.run import Run


def main() -> None:
    """Run the command line."""
    run("evaluate", evaluate_checkpoint)


def evaluate_checkpoint(config: DictConfig) -> None:
    """Compare a checkpoint with its base model on a split of any data."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from sam_train.cli.build import evaluation_of, everything_of, import_own_sources, plain
    from sam_train.errors import InputError
    from sam_train.runs.devices import start_processes
    from sam_train.runs.evaluate import evaluate
    from sam_train.runs.evaluate_everything import evaluate_everything
    from sam_train.runs.run import Run
    from sam_train.runs.trainer import quiet_lightning

    quiet_lightning()
    import_own_sources()
    tuned = Run.load(config.checkpoint, config.weights)
    if config.get("prompts") and config.devices > 1:
        raise InputError(f"devices={config.devices}: masks of everything are scored on one device; leave devices out")
    tuned.device = start_processes(config.devices, config.accelerator)
    loading = {key: value for key, value in plain(config.loader).items() if value is not None}
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if config.get("prompts"):
            evaluation = evaluation_of(config.evaluation)
            evaluate_everything(tuned, _data(config, tuned), evaluation.split, everything_of(config.prompts), folder)
        else:
            evaluate(tuned, _data(config, tuned), evaluation_of(config.evaluation), folder, loading)
    except KeyboardInterrupt:
        keeps_rows = not config.get("prompts") and tuned.record["config"].get("task") is None
        message = f"stopped; go on with the same command and output={folder}" if keeps_rows else "stopped"
        Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)
        raise SystemExit(1) from None


def _data(config: DictConfig, tuned: Run) -> DataSource:
    """Build the data named on the command line, read as in training wherever nothing else was said.

    A configuration of a person's own says everything.
    """
    from hydra.core.hydra_config import HydraConfig

    from sam_train.cli.build import data_source, plain
    from sam_train.runs.opening import as_in_training

    named = config.get("data")
    if named and "parts" in named:
        return as_in_training(data_source(named), config.checkpoint)
    is_own = named and f"data={HydraConfig.get().runtime.choices['data']}" not in choices()
    if named and (is_own or named._target_ != tuned.record["config"]["data"]["_target_"]):
        return as_in_training(data_source(named), config.checkpoint)
    typed = [override.split("=", 1)[0].lstrip("+") for override in HydraConfig.get().overrides.task]
    keys = [name.removeprefix("data.") for name in typed if name.startswith("data.")]
    return tuned.source({key: plain(config.data)[key] for key in keys})


if __name__ == "__main__":
    main()
