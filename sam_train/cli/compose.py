"""From the command line to a composed configuration, with mistakes named as a person would."""

from __future__ import annotations

import atexit
import difflib
import gc
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the configs lie inside the package, in a checkout beside it.
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


def run(name: str, command: Callable[[DictConfig], None]) -> None:
    """Compose ``name``.yaml with the command line's overrides and run a command on it, under Hydra.

    A person's mistake ends the program with one sentence and exit code 2, anything else with Hydra's own report.
    Neither ends a sweep of one process: its other runs go on, and it ends with exit code 2.
    """
    _run_dir.cache_clear()
    OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
    OmegaConf.register_new_resolver("settings_dir", _settings_dir, replace=True)
    OmegaConf.register_new_resolver("max_steps", _max_steps, replace=True)
    _check_overrides(name, sys.argv[1:])
    failed = False

    def guarded(config: DictConfig) -> None:
        nonlocal failed
        try:
            command(config)
        except Exception as error:
            mistake = _mistake(error)
            goes_on = HydraConfig.get().mode == RunMode.MULTIRUN and _is_alone()
            if mistake is not None:
                _say(mistake)
            elif goes_on:
                traceback.print_exc()
            if not goes_on:
                if mistake is None:
                    raise
                raise SystemExit(2) from error
            failed = True
        else:
            return
        gc.collect()  # what the failed run held, or the next one finds less memory

    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(guarded)()
    if failed:
        raise SystemExit(2)


def _is_alone() -> bool:
    """Whether no other process trains with this one, which would not know that a run has failed here."""
    return all(int(os.environ.get(name, 1)) == 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


@cache
def _run_dir(new: str, resume: str | None = None) -> str:
    """Where a run's files go: what it resumes, or a folder no other run has, however many start in the same second."""
    if resume is not None and Path(resume).is_file():
        _fail(f"resume={resume}: a file; name the folder of the run, resume={Path(resume).parent}")
    if not _is_first():  # that one says where files go; this one has none worth keeping
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    if resume is not None:
        return resume
    folder, number = new, 1
    while True:
        try:
            Path(folder).mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = f"{new}-{number}"
        else:
            return folder


def _settings_dir(now: str, resume: str | None) -> str | None:
    """Where in its folder a run's settings are kept; a resumed run does not overwrite those it began with."""
    if not _is_first():
        return None
    return ".hydra" if resume is None else f".hydra/resumed-{now}"


def _is_first() -> bool:
    """Whether this is the only process of a run, or the first of those that torchrun or SLURM started."""
    return all(int(os.environ.get(name, 0)) == 0 for name in ("RANK", "SLURM_PROCID", "NODE_RANK"))


def _max_steps(max_epochs: int | None, max_steps: int) -> int:
    """Where a person said how many epochs, these end a run."""
    return max_steps if max_epochs in (None, -1) else -1


def _mistake(error: BaseException | None) -> str | None:
    """What to tell a person of an error, if it or a cause of it is something that a person can mend."""
    import torch

    from sam_train.errors import InputError

    while error is not None:
        message = str(error)
        if isinstance(error, torch.OutOfMemoryError):
            return (
                "the GPU's memory does not suffice. Try a lower loader.batch_size or loader.max_objects, a smaller "
                f"model.image_size or tuning.checkpoint_activations=true ({message.partition('. ')[0]})"
            )
        if isinstance(error, MissingMandatoryValue):
            return f"{error.full_key}: not given; add {error.full_key}=..."
        if isinstance(error, InputError):
            return message
        error = error.__cause__ or error.__context__
    return None


def _say(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    error = Text.assemble(("error:", "bold red"), f" {message}")  # not markup: file names and patterns have brackets
    Console(stderr=True, soft_wrap=True, highlight=False).print(error)


def _fail(message: str) -> None:
    _say(message)
    raise SystemExit(2)


def _check_overrides(name: str, arguments: list[str]) -> None:
    """Name the nearest valid key or choice where an override has none; everything else is left to Hydra."""
    typed = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if any(argument.startswith("-") for argument in typed):
        return  # help, or configurations that only Hydra finds
    parser, parsed = OverridesParser.create(), []
    for argument in typed:
        try:
            parsed += parser.parse_overrides([argument])
        except HydraException:
            key, separator, value = argument.partition("=")
            if not separator:
                _fail(f"{argument}: not key=value; a value with a space wants quotes: 'data.root=my data'")
            if value[:1] in tuple("[{\"'"):
                return  # Hydra says what it does not understand
            _fail(f"{argument}: values with other signs than letters, digits and -_./ want quotes: '{key}=\"{value}\"'")
    # Hydra, too, composes what does not vary on its own before it sweeps.
    overrides = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    for override in overrides:
        group, _, value = override.partition("=")
        possible = [choice for choice in choices() if choice.startswith(f"{group}=")]
        if value == "null" and possible:
            _fail(f"{override}: possible are {', '.join(possible)}; where nothing is the default, leave {group} out")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            hydra.compose(name, overrides)
        except HydraException as error:
            message = str(error).split("\n", 1)[0]
            chosen = [override for override in overrides if override in choices()]
            near = _nearest(overrides, [*_keys(hydra.compose(name, chosen))])
            _fail(f"{message}\n{near}" if near else message)


def _nearest(overrides: list[str], keys: list[str]) -> str:
    """What the first override that names nothing may have meant."""
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
