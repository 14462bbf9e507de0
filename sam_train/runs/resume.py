"""What a resumed run must have in common with the run it goes on with: a comparison of two records."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from sam_train.errors import InputError

FREE = frozenset(
    {
        "data.root",
        "data.check",
        "data.on_error",
        "model.weights",
        "loader.num_workers",
        "loader.micro_batch",
        "loader.micro_objects",
        "cache.folder",
    }
)
"""Settings that may differ: who loads, how a step is split, and where what is known by its contents lies."""

LONGER = frozenset({"trainer.max_steps", "trainer.max_epochs"})
"""Settings that may grow: to go on for longer is no accident."""

COMPARED = (
    "model",
    "tuning",
    "prompts",
    "loss",
    "optim",
    "data",
    "loader",
    "cache",
    "prompter",
    "trainer",
    "average",
    "seed",
)
TRAINER = frozenset({"max_steps", "max_epochs", "accumulate_grad_batches", "gradient_clip_val", "precision"})
"""Of the trainer's settings those that change the steps still to come."""


def require_same(then: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with a run whose settings, weights or devices are others.

    Args:
        then: Record of the run to go on with.
        now: Record of this run.
        where: The argument that named it, for messages.

    Raises:
        InputError: If they differ in anything that changes a step; names all that differs.
    """
    found = list(_differences(_compared(then["config"]), _compared(now["config"])))
    if found:
        differing = "; ".join(f"{name} was {before}, is {after}" for name, before, after in found)
        raise InputError(
            f"{where}: that run had other settings: {differing}. Repeat the command it was started with (its settings "
            "are in .hydra/overrides.yaml of that folder; trainer.max_steps and max_epochs may be larger)"
        )
    if then["devices"] != now["devices"]:
        raise InputError(
            f"{where}: that run had {then['devices']} devices in all, this command has {now['devices']}; give it as "
            "many (trainer=ddp, trainer.devices, trainer.num_nodes)"
        )


def require_same_base(then: Mapping[str, Any], base: str, where: str) -> None:
    """Refuse weights that a run did not begin with; random ones are not compared, the checkpoint holds all.

    Raises:
        InputError: If they are others.
    """
    weights = then["config"]["model"]["weights"]
    if weights != "random" and then["base"] != base:
        raise InputError(f"{where}: model.weights={weights} are not the run's own; give the file it began with")


def require_same_images(then: Mapping[str, Tensor], now: Mapping[str, Tensor], where: str) -> None:
    """Refuse images added, changed or taken away: they would be split anew, and training images be called held out.

    Raises:
        InputError: If they are not those that the run began with.
    """
    for split, after in now.items():
        before = then[split]
        if len(before) != len(after) or not bool((before == after).all()):
            raise InputError(
                f"{where}: the {split} images are not those of then ({len(before)} now {len(after)}, or other "
                "contents). Put them back, or start anew with model.weights= of that run's sam-export"
            )


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their full names, those that must not differ."""
    flat: dict[str, Any] = {}
    for part in COMPARED:
        flat.update(_flat(part, config.get(part)))
    return {
        name: value
        for name, value in flat.items()
        if _of_any_source(name) not in FREE
        and (not name.startswith("trainer.") or name.removeprefix("trainer.") in TRAINER)
    }


def _of_any_source(name: str) -> str:
    """Return a setting's name as if its source were the only one of the run."""
    return re.sub(r"^data\.parts\.[^.]+\.", "data.", name)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    else:
        yield name, value


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in {**then, **now}:
        before, after = then.get(name), now.get(name)
        if name in LONGER:
            first, last = (math.inf if end in (None, -1) else end for end in (before, after))
            is_fine = last >= first
        else:
            is_fine = before == after
        if not is_fine:
            yield name, before, after
