"""Scores as a table: one row for each object and kind of prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sam_train.metrics.base import Metric

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = ("image", "object", "prompt")
"""Columns that tell a row from every other: image id, the object's value in its label plane, kind of prompt."""


def gather_rows(tables: Sequence[pa.Table]) -> pa.Table:
    """Join the tables of all processes in one order; every process gets all rows.

    A row that several processes have scored, as the last ones of uneven shares are, counts once.
    """
    import pyarrow as pa

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shares: list[list[pa.Table]] = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(shares, list(tables))
        tables = [table for share in shares for table in share]
    filled = [table for table in tables if table.num_rows]
    if not filled:
        return pa.table({key: [] for key in KEYS})
    table = pa.concat_tables(filled, promote_options="permissive").sort_by([(key, "ascending") for key in KEYS])
    rows = list(zip(*(table.column(key).to_pylist() for key in KEYS), strict=True))
    return table.filter(pa.array([index == 0 or rows[index - 1] != row for index, row in enumerate(rows)]))


def prompts_in(table: pa.Table) -> list[str]:
    """Kinds of prompt that a table has rows of, in alphabetical order."""
    return sorted(set(table.column("prompt").to_pylist()))


def mean_scores(
    table: pa.Table, metrics: Sequence[Metric], prompts: Sequence[str], model: str = ""
) -> dict[str, dict[str, float]]:
    """Average each metric over the objects of each kind of prompt.

    The digits are the same whatever order the rows come in (``math.fsum``).

    Args:
        table: Rows of objects.
        metrics: What to average.
        prompts: Kinds of prompt, in the order wanted; those without a row are left out.
        model: Whose columns, where the table has several models'.
    """
    import pyarrow.compute as pc

    means: dict[str, dict[str, float]] = {}
    for prompt in prompts:
        rows = table.filter(pc.field("prompt") == prompt) if table.num_rows else table
        if rows.num_rows:
            values = {metric.name: rows.column(column_of(metric, model)).to_pylist() for metric in metrics}
            means[prompt] = {name: math.fsum(of_metric) / len(of_metric) for name, of_metric in values.items()}
    return means


def column_of(metric: Metric, model: str = "") -> str:
    """Name of the column that holds a metric of a model."""
    return f"{model}_{metric.name}" if model else metric.name
