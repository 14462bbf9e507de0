"""What a run says of itself in its checkpoints: plain values, and how they become objects again.

Nothing in a checkpoint is trusted: objects are built only of classes that this package has, or of data sources that the
program has imported, and from plain values alone.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, TypeVar

from sam_train.data.sources.base import DataSource
from sam_train.errors import InputError

VERSION = 2  # of the record; a checkpoint of another one is refused
VERSIONS = ("sam-train", "torch", "lightning", "peft")
TARGET = "_target_"
ENTRY_POINTS = "sam_train.sources"
"""Group of entry points by which an installed package names its data sources."""

MOVED = {"sam_train.data.loading.datamodule.Loading": "sam_train.data.loading.settings.Loading"}
"""Classes of this package by the names that older checkpoints have for them."""

T = TypeVar("T")


def describe(value: Any) -> Any:
    """Turn settings into plain values: a dataclass becomes a mapping with its class's name under ``_target_``."""
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: describe(getattr(value, field.name)) for field in fields(value)}
        return {TARGET: _name(type(value)), **content}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def with_new_names(value: Any) -> Any:
    """Return plain values with the names that classes have now."""
    if isinstance(value, Mapping):
        return {key: MOVED.get(one, one) if key == TARGET else with_new_names(one) for key, one in value.items()}
    return [with_new_names(one) for one in value] if isinstance(value, list) else value


def versions() -> dict[str, str]:
    """Versions of what computed a run."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}


def rebuild(description: Any, kind: type[T], where: str) -> T:
    """Build the object that :func:`describe` described.

    Args:
        description: From a checkpoint.
        kind: What it must be: the class itself or, for :class:`DataSource`, any subclass that is known.
        where: The checkpoint, for messages.

    Raises:
        InputError: If it names another class, or values that the class does not take.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get(TARGET), str):
        raise InputError(f"{where} is damaged: it does not say which {kind.__name__} it was made with")
    target = description[TARGET]
    found = _source(target, where) if kind is DataSource else kind
    if target != _name(found):
        raise InputError(f"{where}: it asks for {target} where {_name(kind)} belongs; it was not made by sam-train")
    known = {field.name for field in fields(found)}  # pyright: ignore[reportArgumentType]
    values = {name: value for name, value in description.items() if name != TARGET}
    if others := sorted(values.keys() - known):
        raise InputError(f"{where}: {target} has no setting {others[0]!r}; it was made by another version")
    return found(**{name: _plain(value, where, kind is DataSource) for name, value in values.items()})  # pyright: ignore[reportReturnType]


def _plain(value: Any, where: str, sources: bool) -> Any:
    """Refuse what is not a number, a text, nothing, a list or a table of these or, with ``sources``, a data source."""
    if isinstance(value, Mapping) and (sources or TARGET not in value):
        if TARGET in value:
            return rebuild(value, DataSource, where)  # pyright: ignore[reportAbstractUsage]
        return {str(name): _plain(item, where, sources) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item, where, sources) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(f"{where}: a setting is a {type(value).__name__}; expected numbers and texts only")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _source(target: str, where: str) -> type[DataSource]:
    """Find a data source by name: one of the package, of an installed one that names it, or already imported."""
    module, _, _ = target.rpartition(".")
    if module.startswith("sam_train."):
        try:
            importlib.import_module(module)
        except ImportError as error:
            remedy = "name the data anew (data=... data.root=...)"
            raise InputError(f"{where}: this version has no {target}; {remedy}") from error
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.value.replace(":", ".") == target:
            entry.load()
    known = {_name(kind): kind for kind in _subclasses(DataSource)}
    if target not in known:
        raise InputError(
            f"{where}: its data are a {target}, which is not of this package and might do anything. If it is a class "
            "of your own, name the folder of its configuration (--config-dir=...), or import it before Run.load"
        )
    return known[target]


def _subclasses(kind: type[T]) -> list[type[T]]:
    return [found for direct in kind.__subclasses__() for found in (direct, *_subclasses(direct))]
