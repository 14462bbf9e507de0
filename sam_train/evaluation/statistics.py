"""How sure a gain is: differences of paired scores with bootstrap confidence intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sam_train.metrics.base import Metric
from sam_train.metrics.table import column_of

if TYPE_CHECKING:
    import pyarrow as pa

CONFIDENCE = 0.95
RESAMPLES = 4000  # the ends of an interval then move by some 2% of its width from seed to seed


@dataclass(frozen=True)
class Difference:
    """Tuned minus untuned, averaged over objects.

    Attributes:
        mean: Of the differences.
        low: Lower end of the confidence interval; None where there is none.
        high: Upper end.
        num_groups: Groups the objects are in: patients, slides, videos, or images that stand alone.
    """

    mean: float
    low: float | None
    high: float | None
    num_groups: int

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def difference(rows: pa.Table, metric: Metric, prompt: str) -> Difference:
    """Average tuned minus untuned over the objects of one kind of prompt, with its interval.

    Objects of one group are alike, so groups are drawn and not objects: the percentile bootstrap of
    :func:`scipy.stats.bootstrap` over groups, 4000 draws from a fixed seed.

    Args:
        rows: With the columns of the models ``untuned`` and ``tuned``.
        metric: What was measured.
        prompt: Kind of prompt.
    """
    import pyarrow.compute as pc

    some = rows.filter(pc.field("prompt") == prompt)
    change = _column(some, column_of(metric, "tuned")) - _column(some, column_of(metric, "untuned"))
    _, group = np.unique(np.asarray(some.column("group").to_pylist(), dtype=object).astype(str), return_inverse=True)
    return bootstrap_mean(change, group)


def bootstrap_mean(values: Sequence[float] | np.ndarray, group: Sequence[int] | np.ndarray) -> Difference:
    """Average values with the interval of their mean, groups being drawn whole.

    Args:
        values: One for each object.
        group: The number of each object's group, from 0.
    """
    from scipy.stats import bootstrap

    values, group = np.asarray(values, dtype=float), np.asarray(group)
    sums = np.bincount(group, weights=values)
    counts = np.bincount(group).astype(float)
    mean = float(values.mean())
    if len(sums) < 2:
        return Difference(mean, None, None, len(sums))
    found = bootstrap(
        (sums, counts),
        lambda some, number, axis: some.sum(axis=axis) / number.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=max(1, 4_000_000 // len(sums)),
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Difference(mean, float(found.low), float(found.high), len(sums))


def _column(rows: pa.Table, name: str) -> np.ndarray:
    return rows.column(name).to_numpy().astype(float)
