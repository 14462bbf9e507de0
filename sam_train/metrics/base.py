"""What a metric is: a name, a direction, and a number for each pair of masks."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sam_train.errors import InputError
from sam_train.metrics.crops import MaskCrop, crop_pairs


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

    @classmethod
    def of(cls, crop: MaskCrop) -> MaskPairs:
        """Make pairs of one pair that was cut out: metrics give the numbers of the whole masks.

        This is how another process scores: a :class:`MaskCrop` is small, and it and a :class:`Metric` can be pickled.
        A metric that depends on where in its image an object lies cannot be had this way.
        """
        pairs = cls(torch.from_numpy(crop.predicted)[None], torch.from_numpy(crop.truth)[None], crop.spacing)
        vars(pairs)["crops"] = (crop,)  # which knows the size of the image
        return pairs

    @cached_property
    def crops(self) -> tuple[MaskCrop, ...]:
        """Each pair within the box around both masks: what metrics are computed from, here or in another process."""
        return crop_pairs(self.predicted, self.truth, self.spacing)

    @cached_property
    def intersection(self) -> Float[Tensor, "P"]:
        """Pixels in both masks."""
        return _areas(crop.predicted & crop.truth for crop in self.crops)

    @cached_property
    def predicted_area(self) -> Float[Tensor, "P"]:
        """Pixels of each predicted mask."""
        return _areas(crop.predicted for crop in self.crops)

    @cached_property
    def true_area(self) -> Float[Tensor, "P"]:
        """Pixels of each true mask."""
        return _areas(crop.truth for crop in self.crops)


def _areas(masks: Iterable[Bool[np.ndarray, "r c"]]) -> Float[Tensor, "P"]:
    return torch.tensor([np.count_nonzero(mask) for mask in masks], dtype=torch.double)


class Variants(NamedTuple):
    """Metrics that differ from one of the package in what their own names say.

    Attributes:
        make: Makes the metric of a name; None if the name is not of its kind.
        examples: Names, for people.
    """

    make: Callable[[str], Metric | None]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """A number that says how good a mask is.

    Attributes:
        name: The key in tables and reports.
        function: From pairs of masks to one number for each.
        higher_is_better: Whether a larger number is a better mask.
        title: The name for people; by default the key.
        needs_spacing: Whether it can be had only of images whose pixels' size in mm is known.
        variants: Others of its kind that :func:`find_metrics` makes from their names.
    """

    name: str
    function: Callable[[MaskPairs], Float[Tensor, "P"]]
    higher_is_better: bool = True
    title: str = ""
    needs_spacing: bool = False
    variants: Variants | None = field(default=None, compare=False, repr=False)

    def __call__(self, pairs: MaskPairs) -> Float[Tensor, "P"]:
        """Compute one number for each pair."""
        return self.function(pairs)

    def gain(self, before: float, after: float) -> float:
        """How much better ``after`` is than ``before``: positive for an improvement, whichever direction that is."""
        return after - before if self.higher_is_better else before - after


def find_metrics(names: Sequence[str], known: Sequence[Metric]) -> tuple[Metric, ...]:
    """Find metrics by name among ``known`` and their variants, or by the dotted path of a :class:`Metric`.

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
    variants = [metric.variants for metric in known.values() if metric.variants]
    for kind in variants:
        if metric := kind.make(name):
            return metric
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
    names = [*known, *(example for kind in variants for example in kind.examples)]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    raise InputError(
        f"evaluation.metrics: no metric {name!r}; nearest: {', '.join(near) or '-'}; all: {', '.join(names)}. One of "
        "your own is given by its dotted path, such as my_module.my_metric"
    )
