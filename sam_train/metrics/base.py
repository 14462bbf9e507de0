"""What a metric is: a name, a direction, and a number for each pair of masks."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sam_train.errors import InputError


@dataclass(frozen=True)
class MaskPairs:
    """Predicted masks beside the true ones of one image; what several metrics need is computed once.

    Attributes:
        predicted: At the size of the truth, with nothing outside it.
        truth: What was to be found.
        spacing: Distance in mm from one row to the next and from one column to the next; None where it is unknown.
    """

    predicted: Bool[Tensor, "P h w"]
    truth: Bool[Tensor, "P h w"]
    spacing: tuple[float, float] | None = None

    @cached_property
    def intersection(self) -> Float[Tensor, "P"]:
        """Pixels in both masks."""
        return _areas(self.predicted & self.truth)

    @cached_property
    def predicted_area(self) -> Float[Tensor, "P"]:
        """Pixels of each predicted mask."""
        return _areas(self.predicted)

    @cached_property
    def true_area(self) -> Float[Tensor, "P"]:
        """Pixels of each true mask."""
        return _areas(self.truth)


def _areas(masks: Bool[Tensor, "P h w"]) -> Float[Tensor, "P"]:
    """Count each mask on its own: a sum over all at once first copies them as 64-bit numbers."""
    areas = [mask.count_nonzero() for mask in masks]
    return torch.stack(areas).double() if areas else torch.zeros(0, dtype=torch.double, device=masks.device)


@dataclass(frozen=True)
class Metric:
    """A number that says how good a mask is.

    Attributes:
        name: The key in tables and reports.
        function: From pairs of masks to one number for each.
        higher_is_better: Whether a larger number is a better mask.
        title: The name for people; by default the key.
    """

    name: str
    function: Callable[[MaskPairs], Float[Tensor, "P"]]
    higher_is_better: bool = True
    title: str = ""

    def __call__(self, pairs: MaskPairs) -> Float[Tensor, "P"]:
        """Compute one number for each pair."""
        return self.function(pairs)

    def gain(self, before: float, after: float) -> float:
        """How much better ``after`` is than ``before``: positive for an improvement, whichever direction that is."""
        return after - before if self.higher_is_better else before - after


def find_metrics(names: Sequence[str], known: Sequence[Metric]) -> tuple[Metric, ...]:
    """Find metrics by name among ``known``, or by the dotted path of a :class:`Metric` in an installed module.

    Raises:
        InputError: If there is none of a name, or a name is given twice.
    """
    found = tuple(_find(str(name), {metric.name: metric for metric in known}) for name in names)
    keys = [metric.name for metric in found]
    if not keys or len(set(keys)) < len(keys):
        raise InputError(f"evaluation.metrics={keys}: give at least one metric, and each once")
    return found


def _find(name: str, known: dict[str, Metric]) -> Metric:
    if name in known:
        return known[name]
    module, _, attribute = name.rpartition(".")
    if module:
        try:
            metric = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise InputError(f"evaluation.metrics: {name} cannot be imported ({error})") from error
        if isinstance(metric, Metric):
            return metric
        raise InputError(
            f"evaluation.metrics: {name} is a {type(metric).__name__}, not a sam_train.metrics.base.Metric"
        )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise InputError(
        f"evaluation.metrics: no metric {name!r}; nearest: {', '.join(near) or '-'}; all: {', '.join(known)}. One of "
        "your own is given by its dotted path, such as my_module.my_metric"
    )
