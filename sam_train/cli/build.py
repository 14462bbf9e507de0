"""From a composed configuration to a run's settings."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from sam_train.checkpoints.reading import SHIPPED
from sam_train.data.sources.base import DataSource
from sam_train.errors import InputError
from sam_train.inference.mask_generator import Everything
from sam_train.prompts.simulator import PromptSimulator
from sam_train.runs.settings import Evaluation, ModelChoice, Settings


def settings_of(config: DictConfig) -> Settings:
    """Build a run's settings.

    Raises:
        InputError: If a value is out of range, or ``data`` is no data source.
    """
    parts = {name: _build(config[name]) for name in ("tuning", "prompts", "loss", "optim", "loader")}
    if not isinstance(parts["prompts"], PromptSimulator):
        raise InputError("prompts=everything: training wants prompts of objects; this is for sam-evaluate")
    return Settings(
        data=data_source(config.data),
        model=model_choice(config.model),
        trainer=plain(config.trainer),
        evaluation=evaluation_of(config.evaluation),
        cache=_build(config.cache) if "cache" in config else None,
        prompter=_build(config.prompter) if "prompter" in config else None,
        task=_build(config.task) if config.get("task") else None,
        seed=config.seed,
        **parts,
    )


def data_source(config: DictConfig) -> DataSource:
    """Build a data source; a path becomes absolute, so that it is found again from any other folder.

    Raises:
        InputError: If the class is no data source.
    """
    if isinstance(root := config.get("root"), str):
        config = OmegaConf.merge(config, {"root": absolute(root)})  # pyright: ignore[reportAssignmentType]
    source = _build(config)
    if not isinstance(source, DataSource):
        raise InputError(
            f"data._target_={config.get('_target_')}: not a subclass of sam_train.data.sources.base.DataSource, which "
            "says what a data source must have"
        )
    return source


def model_choice(config: DictConfig) -> ModelChoice:
    """Build the choice of a model; the path of its weights becomes absolute."""
    weights = config.weights
    if isinstance(weights, str) and weights not in SHIPPED and weights != "random":
        weights = absolute(weights)
    return ModelChoice(config.preset, weights, config.image_size)


def evaluation_of(config: DictConfig) -> Evaluation:
    """Build what is scored."""
    return Evaluation(**plain(config))


def everything_of(config: DictConfig) -> Everything:
    """Build how masks of everything are looked for.

    Raises:
        InputError: If something else was chosen.
    """
    built = _build(config)
    if not isinstance(built, Everything):
        raise InputError(
            "prompts=: sam-evaluate takes prompts=everything alone; evaluation.protocols names the kinds of prompt"
        )
    return built


def callbacks_of(config: DictConfig) -> list[Any]:
    """Build the callbacks that are not null."""
    return [instantiate(callback) for callback in config.callbacks.values() if callback is not None]


def plain(config: DictConfig) -> dict[str, Any]:
    """Return a part of a configuration as plain values, without ``_target_``."""
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key != "_target_"}


def absolute(path: str) -> str:
    """Return the absolute form of a path that exists, and anything else, such as a hub id, as it is."""
    found = Path(path).expanduser()
    return str(found.absolute()) if found.exists() else path


def import_own_sources() -> None:
    """Import the data sources that a person's own configurations (``--config-dir``) name.

    Whoever gives the folder trusts them: checkpoints that were trained on them may then build them again.
    """
    for source in HydraConfig.get().runtime.config_sources:
        if source.provider == "command-line":
            for file in sorted(Path(source.path, "data").glob("*.yaml")):
                content = OmegaConf.load(file)
                target = content.get("_target_") if isinstance(content, DictConfig) else None
                if target:
                    _import(str(target), str(file))


def _import(target: str, file: str) -> None:
    try:
        importlib.import_module(target.rpartition(".")[0])
    except ImportError as error:
        raise InputError(
            f"{file}: {target} cannot be imported ({error}); install its package, or name the folder it is in: "
            "PYTHONPATH=<folder> sam-..."
        ) from error


def _build(config: DictConfig) -> Any:
    if target := config.get("_target_"):
        _import(target, "the configuration")
    return instantiate(config, _convert_="all")
