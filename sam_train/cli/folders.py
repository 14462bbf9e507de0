"""Where the files of a run or a report go."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

from sam_train.cli.telling import fail


def register_resolvers() -> None:
    """Have configurations ask this module for folders, anew for each command."""
    for name, resolver in {"run_dir": _run_dir, "report_dir": _report_dir}.items():
        resolver.cache_clear()
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    OmegaConf.register_new_resolver("settings_dir", _settings_dir, replace=True)


@cache
def _run_dir(new: str, output: str | None = None, resume: str | None = None) -> str:
    """Return the folder to resume, the one asked for, or one no other run has, even if they start in the same second.

    It ends the program if that is a file, cannot be written, or holds another run.
    """
    if resume is not None and Path(resume).is_file():
        fail(f"resume={resume}: a file; name the folder of the run, resume={Path(resume).parent}")
    if resume is not None and is_first():
        return resume
    if output is not None and is_first() and Path(output, "last.ckpt").exists():
        fail(f"output={output}: holds a run; go on with it (resume={output}) or name another folder")
    return _made(new, output)


@cache
def _report_dir(new: str, output: str | None = None) -> str:
    """Return the folder asked for, or one that nothing else has."""
    return _made(new, output)


def _made(new: str, output: str | None) -> str:
    if not is_first():  # that one says where files go; this one has none worth keeping
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    try:
        if output is None:
            return new_folder(new)
        folder = Path(output).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):  # can it be written?
            return str(folder)
    except OSError as error:
        where = f"output={output}" if output else new
        fail(f"{where}: cannot be written ({error.strerror}); name another folder: output=...")


def new_folder(wanted: str) -> str:
    """Make a folder of this name or, if there is one, of the first free name that begins like it."""
    folder, number = wanted, 1
    while True:
        try:
            Path(folder).mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = f"{wanted}-{number}"
        else:
            return folder


def _settings_dir(now: str, resume: str | None) -> str | None:
    """Return where in its folder a run's settings are kept; a resumed run does not overwrite those it began with."""
    if not is_first():
        return None
    return ".hydra" if resume is None else f".hydra/resumed-{now}"


def is_first() -> bool:
    """Whether this is the only process of a run, or the first of those that torchrun or SLURM started."""
    return all(int(os.environ.get(name, 0)) == 0 for name in ("RANK", "SLURM_PROCID", "NODE_RANK"))


def discard_if_empty(folder: Path) -> None:
    """Remove the folder of a command that failed before it left anything but its settings."""
    left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if left <= {".hydra", "train.log", "evaluate.log"} and not any((folder / ".hydra").glob("resumed-*")):
        shutil.rmtree(folder, ignore_errors=True)
