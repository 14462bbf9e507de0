"""Dataclasses whose tensors travel together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T", bound="Tensors")  # typing.Self says the same but cannot be checked at run time


class Tensors:
    """A dataclass whose tensor fields travel together."""

    def _map(self: T, function: Callable[[Tensor], Tensor]) -> T:
        def convert(value: Any) -> Any:
            if isinstance(value, Tensor):
                return function(value)
            if isinstance(value, Tensors):
                return value._map(function)
            if isinstance(value, tuple):
                return tuple(convert(item) for item in value)
            return value

        return replace(self, **{field.name: convert(getattr(self, field.name)) for field in fields(self)})  # pyright: ignore[reportArgumentType]

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """All tensors through ``Tensor.to`` with these arguments."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def num_bytes(self) -> int:
        """Of all tensors."""
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        self._map(count)
        return total

    def pin_memory(self: T) -> T:
        """All tensors in page-locked memory, as ``DataLoader(pin_memory=True)`` asks for."""
        return self._map(lambda tensor: tensor.pin_memory())
