"""Controls: what a box gives without a model, and whether a model listens to its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from sam_train.data.loading.dataset import EvalDataset
from sam_train.evaluation.baselines import BASELINES, from_box
from sam_train.inference.score_columns import Rows
from sam_train.inference.scoring import mask_pairs
from sam_train.metrics.base import Metric
from sam_train.metrics.table import gather_rows, mean_scores

if TYPE_CHECKING:
    import pyarrow as pa

SHUFFLED = "shuffled"
"""The protocol in which each object gets the box of another object of its image."""


def quick_metrics(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics that controls are measured by: those that take no time, or else all."""
    return [metric for metric in metrics if not metric.is_slow] or list(metrics)


def score_baselines(dataset: EvalDataset, indices: Sequence[int], metrics: Sequence[Metric]) -> pa.Table:
    """Score what tight boxes give without a model (:data:`BASELINES`), object by object.

    Args:
        dataset: Held-out images.
        indices: Which of them are this process's; every process gets the rows of all.
        metrics: What to measure.
    """
    tables = []
    for index in indices:
        batch = dataset[index]
        assert batch.originals is not None
        (truth,) = batch.originals
        if not len(truth.value):
            continue
        rows = Rows(metrics)
        rows.begin(batch.ids[0], truth, "box")
        image = dataset.images.read(index).image
        for number, mask in enumerate(truth.each_mask()):
            for name, baseline in BASELINES.items():
                pairs = mask_pairs(from_box(baseline, image, mask)[None], truth, torch.tensor([number]))
                rows.add(name, pairs, [0.0])
        tables.append(rows.table())
    return gather_rows(tables)


def summarize_controls(rows: pa.Table, baselines: pa.Table, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Put controls beside each other.

    Args:
        rows: Of the models, those of shuffled prompts among them.
        baselines: What :func:`score_baselines` returned.
        metrics: What was measured.

    Returns:
        For each baseline its mean scores; for ``shuffled`` those of each model, which are low where it listens.
    """
    found: dict[str, Any] = {
        name: scores["box"] for name in BASELINES if (scores := mean_scores(baselines, metrics, ["box"], name))
    }
    shuffled: Mapping[str, Any] = {
        model: scores[SHUFFLED]
        for model in ("untuned", "tuned")
        if (scores := mean_scores(rows, metrics, [SHUFFLED], model))
    }
    return found | ({SHUFFLED: shuffled} if shuffled else {})
