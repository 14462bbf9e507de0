"""Values on the command line, looked at before anything heavy is imported: paths that exist, numbers in range."""

from __future__ import annotations

import difflib
import netrc
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, ListConfig, OmegaConf

from sam_train.cli.overrides import CONFIGS
from sam_train.errors import InputError
from sam_train.limits import LIMITS, check_limits

NAMES = (
    *("root", "images", "masks", "weights", "checkpoint", "path", "folder", "output", "resume", "dirpath"),
    *("boxes", "points"),
)
"""Last words of settings that are names of files, folders or columns, even if they look like numbers."""

_NUMBER = re.compile(r"[+-]?[\d_]*\.?[\d_]+(e[+-]?\d+)?", re.IGNORECASE)
_WEIGHT_FILES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def quoted(argument: str) -> str:
    """Quote an argument's value if it is a name that looks like a number, such as ``data.root=2024_01_15``."""
    key, separator, value = argument.partition("=")
    is_name = key.lstrip("+").rpartition(".")[2] in NAMES
    return f"{key}='{value}'" if separator and is_name and _NUMBER.fullmatch(value) else argument


def allowed(argument: str) -> str:
    """Let settings of the parts of ``data=mixture`` be new: their names are the person's own."""
    return f"++{argument}" if argument.startswith("data.parts.") else argument


def check_values(config: DictConfig, null_is_default: bool = False, any_model: bool = False) -> None:
    """Refuse what can be told without reading data or models.

    Args:
        config: What was composed.
        null_is_default: Whether null stands for what a checkpoint says, as in ``sam-evaluate``.
        any_model: Whether ``checkpoint`` may also be a preset or a hub id, as in ``sam-predict``.

    Raises:
        InputError: If a value is missing or out of range, a path leads nowhere, or the logger would ask a question.
    """
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise InputError(f"{missing[0]}: not given; add {missing[0]}=...")
    for part in LIMITS:
        values = OmegaConf.select(config, part) if part else config
        if isinstance(values, DictConfig):
            given = {str(key): _plain(value) for key, value in values.items_ex(resolve=True)}
            check_limits(part, {key: value for key, value in given.items() if not null_is_default or value is not None})
    parts = OmegaConf.select(config, "data.parts")
    names = [f"data.parts.{name}.root" for name in parts] if isinstance(parts, DictConfig) else []
    for name in ("data.root", *names):
        root = OmegaConf.select(config, name)
        if isinstance(root, str):
            require_path(name, root)
    for key in ("checkpoint", "weights", "model.weights"):
        name = OmegaConf.select(config, key)
        if isinstance(name, str) and (name.endswith(_WEIGHT_FILES) or (key == "checkpoint" and not any_model)):
            require_path(key, name)
        elif isinstance(name, str) and key == "checkpoint":
            _require_model(name)
    for key in ("images", "boxes", "boxes_of", "points"):
        if isinstance(config.get(key), str):
            require_path(key, config[key])
    if isinstance(config.get("resume"), str):
        require_path("resume", config.resume)
    _require_wandb_key(config)


def _plain(value: object) -> object:
    return OmegaConf.to_container(value) if isinstance(value, (DictConfig, ListConfig)) else value


def require_path(key: str, name: str) -> None:
    """Refuse a path that leads nowhere, with the nearest name that is there.

    Raises:
        InputError: If there is neither file nor folder.
    """
    path = Path(name).expanduser()
    if path.exists():
        return
    there = next(parent for parent in path.absolute().parents if parent.is_dir())
    wanted = path.absolute().relative_to(there).parts[0]
    near = difflib.get_close_matches(wanted, [other.name for other in there.iterdir()], n=1)
    hint = f"did you mean {there / near[0]}?" if near else f"{there} has nothing of a similar name"
    raise InputError(f"{key}={name}: no such file or folder; {hint}")


def _require_model(name: str) -> None:
    """Refuse a checkpoint that is neither a path, nor the name of a preset, nor one that a repository can have."""
    folder, _, inside = name.partition("/")
    may_be_of_hub = inside and "/" not in inside and not Path(folder).expanduser().is_dir()
    presets = [path.stem for path in (CONFIGS / "model").glob("*.yaml")]
    if name in presets or may_be_of_hub:
        return
    if not Path(name).exists() and (near := difflib.get_close_matches(name, presets, n=1)):
        raise InputError(f"checkpoint={name}: no such file, folder or preset; did you mean {near[0]}?")
    require_path("checkpoint", name)


def _require_wandb_key(config: DictConfig) -> None:
    """Refuse wandb without a key: it would ask for one in the middle of the start, or end it with its own error."""
    target = OmegaConf.select(config, "logger._target_") or ""
    is_offline = config.logger.get("offline") if target.endswith("WandbLogger") else True
    if is_offline or os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun"):
        return
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        known = netrc.netrc().authenticators(host)
    except (OSError, netrc.NetrcParseError):
        known = None
    if not os.environ.get("WANDB_API_KEY") and known is None:
        raise InputError(
            "logger=wandb: there is no key for wandb; run `wandb login` once, or give logger.offline=true and later "
            "`wandb sync` the run's folder"
        )
