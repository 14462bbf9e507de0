"""From the command line to a composed configuration, with mistakes named as a person would."""

from __future__ import annotations

import gc
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue

from sam_train.cli.folders import discard_if_empty, register_resolvers
from sam_train.cli.guess import with_kind_of_data
from sam_train.cli.help import help_text
from sam_train.cli.overrides import CONFIGS, check_overrides
from sam_train.cli.telling import fail, say
from sam_train.cli.values import allowed, check_values, quoted
from sam_train.errors import InputError

log = logging.getLogger(__name__)

_GUESSING = ("train", "check", "preview", "convert")
"""Commands for which ``data.root=`` alone suffices."""


def run(name: str, command: Callable[[DictConfig], None]) -> None:
    """Compose ``name``.yaml with the command line's overrides and run a command on it, under Hydra.

    A person's mistake ends the program with one sentence and exit code 2, a training that failed on its own with one
    sentence and exit code 1, anything else with Hydra's own report. None of them ends a sweep of one process: its other
    runs go on, and it ends with exit code 2.
    """
    arguments = sys.argv[1:] = [allowed(quoted(argument)) for argument in sys.argv[1:]]
    if {"--help", "-h"} & set(arguments):
        sys.stdout.write(f"{help_text(name, arguments)}\n")
        return
    register_resolvers()
    logging.getLogger("sam_train").addHandler(logging.NullHandler())  # a command without a log has none on stderr
    failed = False

    def guarded(config: DictConfig) -> None:
        nonlocal failed
        try:
            check_values(config, null_is_default=name == "evaluate", any_model=name in ("predict", "app"))
            log.info("sam-%s %s", name, shlex.join(arguments))
            command(config)
        except Exception as error:
            told = _told(error)
            goes_on = HydraConfig.get().mode == RunMode.MULTIRUN and _is_alone()
            if told is not None:
                say(told[0])
            elif goes_on:
                traceback.print_exc()
            log.exception("failed")
            if not goes_on:
                discard_if_empty(Path(HydraConfig.get().runtime.output_dir))
                if told is None:
                    raise
                raise SystemExit(told[1]) from error
            failed = True
        else:
            return
        gc.collect()  # what the failed run held, or the next one finds less memory

    try:
        if name in _GUESSING:
            arguments = sys.argv[1:] = with_kind_of_data(arguments)
        check_overrides(name, arguments)
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(guarded)()
    except InputError as error:
        fail(str(error))
    if failed:
        raise SystemExit(2)


def _is_alone() -> bool:
    """Whether no other process trains with this one, which would not know that a run has failed here."""
    return all(int(os.environ.get(name, 1)) == 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def _told(error: BaseException | None) -> tuple[str, int] | None:
    """Return what to tell a person of an error and the exit code, if it or a cause of it can be mended by a person."""
    torch, tasks = sys.modules.get("torch"), sys.modules.get("sam_train.tasks.gradients")
    while error is not None:
        if torch is not None and isinstance(error, torch.OutOfMemoryError):
            return (
                "the GPU's memory does not suffice. Try loader.micro_batch=1, a lower loader.max_objects, a smaller "
                f"model.image_size or tuning.checkpoint_activations=true ({str(error).partition('. ')[0]})"
            ), 2
        if isinstance(error, MissingMandatoryValue):
            return f"{error.full_key}: not given; add {error.full_key}=...", 2
        if isinstance(error, InputError):
            return str(error), 2
        if tasks is not None and isinstance(error, tasks.DivergenceError):
            return str(error), 1
        error = error.__cause__ or error.__context__
    return None
