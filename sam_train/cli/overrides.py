"""Mistyped settings: answered with the nearest that exists, before Hydra composes anything."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from sam_train.errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the configs lie inside the package, in a checkout beside it.
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


def check_overrides(name: str, arguments: list[str]) -> None:
    """Name the nearest valid key or choice where an override has none; everything else is left to Hydra.

    Raises:
        InputError: If an argument is no ``key=value``, or names nothing that exists.
    """
    typed = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if any(argument.startswith("-") for argument in typed):
        return  # configurations that only Hydra finds
    parser, parsed = OverridesParser.create(), []
    for argument in typed:
        try:
            parsed += parser.parse_overrides([argument])
        except HydraException:
            key, separator, value = argument.partition("=")
            if not separator:
                raise InputError(
                    f"{argument}: not key=value; a value with a space wants quotes: 'data.root=my data'"
                ) from None
            if value[:1] in tuple("[{\"'"):
                return  # Hydra says what it does not understand
            raise InputError(
                f"{argument}: values with other signs than letters, digits and -_./ want quotes: '{key}=\"{value}\"'"
            ) from None
    # Hydra, too, composes what does not vary on its own before it sweeps.
    overrides = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    for override in overrides:
        group, _, value = override.partition("=")
        possible = [choice for choice in choices() if choice.startswith(f"{group}=")]
        if value == "null" and possible:
            remedy = f"where nothing is the default, leave {group} out"
            raise InputError(f"{override}: possible are {', '.join(possible)}; {remedy}")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            hydra.compose(name, overrides)
        except HydraException as error:
            message = str(error).split("\n", 1)[0]
            chosen = [override for override in overrides if override in choices()]
            near = _nearest(overrides, [*_keys(hydra.compose(name, chosen))])
            raise InputError(f"{message}\n{near}" if near else message) from error


def _nearest(overrides: list[str], keys: list[str]) -> str:
    """Say what the first override that names nothing may have meant."""
    groups = dict.fromkeys(choice.split("=")[0] for choice in choices())
    for override in overrides:
        key = _key(override)
        group, _, rest = key.partition(".")
        near: list[str] = []
        if key in groups:
            if "=" not in override or override in choices():
                continue
            near = difflib.get_close_matches(override, choices(), n=3, cutoff=0.5)
        elif key not in keys and not key.startswith("hydra."):
            if owners := [choice for choice in choices() if choice.startswith(f"{group}=") and _has(choice, rest)]:
                return f"{key} belongs to {' or '.join(owners)}: add that"
            named = dict.fromkeys(key for key in (*keys, *groups) if not key.endswith("_target_"))
            near = difflib.get_close_matches(key, named, n=3, cutoff=0.5)
            beside = [name for name in named if name.rpartition(".")[0] == key.rpartition(".")[0] != ""]
            near += [name for name in beside if name not in near][: 8 - len(near)]
        else:
            continue
        return f"nearest: {', '.join(near)}" if near else ""
    return ""


def _has(choice: str, key: str) -> bool:
    """Whether a choice of the package has a key of this name."""
    group, _, name = choice.partition("=")
    return key.partition(".")[0] in list(OmegaConf.load(CONFIGS / group / f"{name}.yaml"))


def _key(override: str) -> str:
    return re.sub(r"^[+~]+|@.*$", "", override.split("=", 1)[0])


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key, value in config.items_ex(resolve=False):
        yield f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{prefix}{key}.")


def choices() -> list[str]:
    """Every configuration of the package, as ``group=name``."""
    return [f"{path.parent.name}={path.stem}" for path in sorted(CONFIGS.glob("*/*.yaml"))]
