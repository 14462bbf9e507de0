"""From a composed configuration to a run's settings."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from sam_train.checkpoints.reading import SHIPPED
from sam_train.cli.overrides import CONFIGS
from sam_train.data.sources.base import DataSource
from sam_train.errors import InputError
from sam_train.inference.mask_generator import Everything
from sam_train.prompts.simulator import PromptSimulator
from sam_train.runs.settings import Evaluation, ModelChoice, Settings

_MIXTURE = "sam_train.data.sources.several.SeveralSources"


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
        InputError: If the class is no data source, or a part of a mixture is of no kind or has not these settings.
    """
    target = config.get("_target_", "")
    if target == _MIXTURE:
        return _mixture(config)
    if "parts" in config and (not target or target.startswith("sam_train.")):
        raise InputError("data.parts belongs to data=mixture: add that")
    if isinstance(root := config.get("root"), str):
        config = OmegaConf.merge(config, {"root": absolute(root)})  # pyright: ignore[reportAssignmentType]
    source = _build(config)
    if not isinstance(source, DataSource):
        raise InputError(
            f"data._target_={config.get('_target_')}: not a subclass of sam_train.data.sources.base.DataSource, which "
            "says what a data source must have"
        )
    return source


def _mixture(config: DictConfig) -> DataSource:
    """Build the sources of ``data=mixture``, each from its kind's configuration."""
    from sam_train.data.sources.several import SeveralSources

    shared = {"check": config.check, "on_error": config.on_error}
    parts, weights = {}, {}
    for name, part in config.parts.items():
        path = f"data.parts.{name}"
        if not isinstance(part, DictConfig):
            raise InputError(f"{path}={part}: expected a kind and settings, such as {path}.kind=folder")
        parts[str(name)] = data_source(_part(part, path, shared))
        if part.get("weight") is not None:
            weights[str(name)] = part.weight
    return SeveralSources(parts, weights, **shared)


def _part(part: DictConfig, path: str, shared: Mapping[str, Any]) -> DictConfig:
    """Return the configuration of a part's kind with the part's settings."""
    kind = part.get("kind")
    kinds = [file.stem for file in sorted((CONFIGS / "data").glob("*.yaml")) if file.stem != "mixture"]
    if kind not in kinds:
        near = difflib.get_close_matches(str(kind), kinds, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise InputError(f"{path}.kind={'null' if kind is None else kind}: expected one of {', '.join(kinds)}{hint}")
    known = OmegaConf.load(CONFIGS / "data" / f"{kind}.yaml")
    assert isinstance(known, DictConfig)
    settings = [str(key) for key in known if key not in ("_target_", *shared)]
    given = {str(key): value for key, value in part.items() if key not in ("kind", "weight")}
    if others := [key for key in given if key not in settings]:
        if others[0] in shared:
            raise InputError(f"{path}.{others[0]}: is of all sources: data.{others[0]}={given[others[0]]}")
        near = difflib.get_close_matches(others[0], settings, n=1)
        remedy = f"nearest: {near[0]}" if near else f"there are {', '.join(settings)}"
        raise InputError(f"{path}.{others[0]}: data={kind} has no such setting; {remedy}")
    merged = OmegaConf.merge(known, given, {key: value for key, value in shared.items() if key in known})
    if missing := OmegaConf.missing_keys(merged):
        name = sorted(missing)[0]
        raise InputError(f"{path}.{name}: not given; add {path}.{name}=...")
    return merged  # pyright: ignore[reportReturnType]


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
