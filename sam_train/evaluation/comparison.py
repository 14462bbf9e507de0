"""Held-out objects scored by every model, on one device or several, from the start or from where it was interrupted."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.progress import Progress
from torch.utils.data import DataLoader

from sam_train.data.loading.share import Share
from sam_train.evaluation.partial_rows import PartialRows
from sam_train.inference.score_columns import Rows
from sam_train.inference.scoring import add_scores
from sam_train.machine import num_processors
from sam_train.metrics.base import Metric
from sam_train.metrics.table import gather_rows
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.protocols import Protocol
from sam_train.structures import Batch

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_PROCESSES = 8
_ROWS_AT_ONCE = 10_000  # as Python's values, before they are packed into a table


class Scored(NamedTuple):
    """Scores of held-out objects.

    Attributes:
        rows: One for each object and kind of prompt, with the columns of every model.
        num_too_small: Objects that ``loader.min_area`` left out.
    """

    rows: pa.Table
    num_too_small: int


def score(
    models: Mapping[str, PromptableModel],
    loader: DataLoader[Batch],
    protocols: Mapping[str, Protocol],
    metrics: Sequence[Metric],
    progress: Progress,
    partial: PartialRows | None = None,
    with_masks: Sequence[str] = (),
    before: Sequence[pa.Table] = (),
    seen: Mapping[str, int] = MappingProxyType({}),
) -> Scored:
    """Score every object of this process's share of the data; every process gets the rows of all.

    Args:
        models: By name.
        loader: Images that are not among the partial rows.
        protocols: Kinds of prompt by name.
        metrics: What to measure.
        progress: Where a bar is shown.
        partial: Where rows are kept on the way, in case the evaluation is interrupted.
        with_masks: Kinds of prompt whose masks are kept in the rows.
        before: Rows of an evaluation that was interrupted, which the loader's images are not among.
        seen: How many objects of each of these images were too small.
    """
    device = next(next(iter(models.values())).parameters()).device
    tables: list[pa.Table] = list(before)
    too_small: dict[str, int] = dict(seen)
    unsaved: dict[str, int] = {}
    with _scoring_processes(metrics) as executor:
        rows = Rows(metrics, executor, with_masks)

        def pack() -> None:
            tables.append(_of_images(rows.table(), unsaved))
            if partial:
                partial.write(tables[-1], unsaved)
            unsaved.clear()

        try:
            for batch in progress.track(loader, description=f"scoring {' and '.join(models)}"):
                assert batch.num_too_small is not None
                add_scores(rows, models, batch.to(device), protocols)
                unsaved.update(zip(batch.ids, batch.num_too_small, strict=True))
                too_small |= unsaved
                if len(rows) >= _ROWS_AT_ONCE or (partial and partial.is_due()):
                    pack()
        except KeyboardInterrupt:
            pack()
            raise
        tables.append(rows.table())
    return Scored(gather_rows(tables), sum(of_all_processes(too_small).values()))


def _of_images(rows: pa.Table, images: Mapping[str, int]) -> pa.Table:
    """Keep the rows of images that are done."""
    import pyarrow.compute as pc

    return rows.filter(pc.field("image").isin([*images])) if rows.num_rows else rows


def of_all_processes(counts: dict[str, int]) -> dict[str, int]:
    """Return the counts by image of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return counts
    shares: list[dict[str, int]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(shares, counts)
    return {image: count for share in shares for image, count in share.items()}


def _begin_scoring() -> None:
    """Compute on one thread, and leave Ctrl-C to the process that keeps the rows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


@contextmanager
def _scoring_processes(metrics: Sequence[Metric]) -> Iterator[Executor | None]:
    """Yield processes that compute metrics beside the model, if any of them takes long and there are processors."""
    number = min(num_processors() // Share.own().world_size - 1, _MOST_PROCESSES)
    if number < 1 or not any(metric.is_slow for metric in metrics):
        yield None
        return
    # A child of fork has all that is imported; it computes on arrays alone, without torch's threads.
    method = "fork" if sys.platform == "linux" else "spawn"
    with ProcessPoolExecutor(number, multiprocessing.get_context(method), _begin_scoring) as executor:
        executor.submit(int).result()  # they start now, before other threads do
        yield executor
