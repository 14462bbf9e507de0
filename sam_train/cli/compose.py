"""From the command line to a composed configuration, with mistakes named as a person would."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the configs lie inside the package, in a checkout beside it.
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


def run(name: str, command: Callable[[DictConfig], None]) -> None:
    """Compose ``name``.yaml with the command line's overrides and run a command on it, under Hydra.

    A person's mistake ends the program with one sentence and exit code 2, anything else with Hydra's own report.
    """
    OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
    _check_overrides(name, sys.argv[1:])

    def guarded(config: DictConfig) -> None:
        from sam_train.structures import InputError

        try:
            command(config)
        except Exception as error:
            mistake = next((cause for cause in _causes(error) if isinstance(cause, InputError)), None)
            if mistake is None:
                raise
            _fail(str(mistake))

    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(guarded)()


def _run_dir(new: str, resume: str | None) -> str:
    return resume or new


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _fail(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    error = Text.assemble(("error:", "bold red"), f" {message}")  # not markup: file names and patterns have brackets
    Console(stderr=True, soft_wrap=True, highlight=False).print(error)
    raise SystemExit(2)


def _check_overrides(name: str, arguments: list[str]) -> None:
    """Name the nearest valid key or choice where an override has none; everything else is left to Hydra."""
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    if len(overrides) != len(arguments) or any("," in override.split("=", 1)[-1] for override in overrides):
        return  # flags, help and sweeps: Hydra's own parser knows them
    for override in overrides:
        group, _, value = override.partition("=")
        possible = [choice for choice in _choices() if choice.startswith(f"{group}=")]
        if value == "null" and possible:
            _fail(f"{override}: a choice cannot be null; possible are {', '.join(possible)}")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            hydra.compose(name, overrides)
        except HydraException as error:
            message = str(error).split("\n", 1)[0]
            near = _nearest(overrides, [*_keys(hydra.compose(name))], _choices())
            _fail(f"{message}\nnearest: {', '.join(near)}" if near else message)


def _nearest(overrides: list[str], keys: list[str], choices: list[str]) -> list[str]:
    """What the first override that names nothing may have meant."""
    groups = {choice.split("=")[0] for choice in choices}
    for override in overrides:
        key = _key(override)
        if key in groups:
            if "=" in override and override not in choices:
                return difflib.get_close_matches(override, choices, n=3, cutoff=0.5)
        elif key not in keys and not key.startswith("hydra."):
            return difflib.get_close_matches(key, [*keys, *groups], n=3, cutoff=0.5)
    return []


def _key(override: str) -> str:
    return re.sub(r"^[+~]+|@.*$", "", override.split("=", 1)[0])


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key, value in config.items_ex(resolve=False):
        yield f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{prefix}{key}.")


def _choices() -> list[str]:
    return [f"{path.parent.name}={path.stem}" for path in sorted(CONFIGS.glob("*/*.yaml"))]
