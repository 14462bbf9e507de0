"""Held-out objects scored by every model, on one device or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.progress import Progress
from torch.utils.data import DataLoader

from sam_train.inference.scoring import score_batch
from sam_train.metrics.base import Metric
from sam_train.metrics.table import gather_rows
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import Batch

if TYPE_CHECKING:
    import pyarrow as pa


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
    protocols: Mapping[str, PromptSimulator],
    metrics: Sequence[Metric],
    progress: Progress,
) -> Scored:
    """Score every object of this process's share of the data; every process gets the rows of all."""
    device = next(next(iter(models.values())).parameters()).device
    tables: list[pa.Table] = []
    too_small: dict[str, int] = {}
    for batch in progress.track(loader, description=f"scoring {' and '.join(models)}"):
        assert batch.num_too_small is not None
        tables.append(score_batch(models, batch.to(device), protocols, metrics))
        too_small.update(zip(batch.ids, batch.num_too_small, strict=True))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shares: list[dict[str, int]] = [{} for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(shares, too_small)
        too_small = {image: count for share in shares for image, count in share.items()}
    return Scored(gather_rows(tables), sum(too_small.values()))
