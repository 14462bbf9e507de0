"""A run's tuned model beside the untuned one on held-out masks, in a table, files and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from sam_train.data.loading.datamodule import ClipData, Loading, SegmentationData
from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.check import check_sources
from sam_train.evaluation.comparison import score
from sam_train.evaluation.pictures import save_pictures
from sam_train.evaluation.report import Report
from sam_train.files import written_whole
from sam_train.metrics.base import find_metrics
from sam_train.prompts.simulator import EVALUATION
from sam_train.runs.evaluate_clips import evaluate_clips, task_of
from sam_train.runs.fit import require_splits
from sam_train.runs.known_images import require_unseen
from sam_train.runs.record import rebuild
from sam_train.runs.run import Run
from sam_train.runs.settings import Evaluation
from sam_train.runs.tasks import clip_data, known_metrics


def evaluate(
    run: Run,
    source: DataSource | None = None,
    evaluation: Evaluation | None = None,
    folder: str | Path | None = None,
    loading: Mapping[str, Any] | None = None,
) -> Report:
    """Score a run's models on a split and leave ``report.json``, ``rows.parquet`` and ``overlays/`` in a folder.

    Every process of a run on several devices calls this and gets the report; the first writes.

    Args:
        run: With the two models.
        source: Images and masks; by default those of the run.
        evaluation: Which split, what is measured, how many pictures; by default as in training.
        folder: Where the files go; by default the run's own.
        loading: Settings of :class:`Loading` that differ from those of training.

    Raises:
        InputError: If the images were trained on, or there are none, or something is wrong with them.
    """
    evaluation = evaluation or rebuild(run.record["config"]["evaluation"], Evaluation, f"checkpoint={run.checkpoint}")
    task = task_of(run)
    metrics = find_metrics(evaluation.metrics, known_metrics(task))
    data = run.data if source is None and loading is None else None
    data = data or held_out(run, source or run.source(), evaluation.split, loading or {})
    folder = run.folder if folder is None else Path(folder).expanduser()
    models = run.models()
    if isinstance(data, ClipData):
        return evaluate_clips(run, models, data, evaluation, metrics, folder)
    is_first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    console = Console(quiet=not is_first)
    with Progress(console=console, transient=True) as progress:
        scored = score(models, data.eval_dataloader(evaluation.split), EVALUATION, metrics, progress)
    images = data.splits[evaluation.split]
    split = "val" if images is data.splits.get("val") else evaluation.split  # which may stand in for a missing test
    counts = {"num_images": len(images), "num_too_small": scored.num_too_small}
    report = Report.of(scored.rows, metrics, list(EVALUATION), counts, split, run.record["chosen_by"])
    if is_first:
        import pyarrow.parquet as pq

        with written_whole(folder / "rows.parquet") as file:
            pq.write_table(scored.rows, file)
        report.save(folder / "report.json")
        console.print(report.table())
        dataset = data.eval_dataset(evaluation.split)
        save_pictures(models, dataset, EVALUATION, metrics, evaluation.overlays, folder / "overlays")
        places = {"report": folder / "report.json", "rows": folder / "rows.parquet", "pictures": folder / "overlays"}
        lines = [f"{name:12}{place}" for name, place in {"checkpoint": run.checkpoint, **places}.items()]
        console.print("\n".join(lines), markup=False)
    return report


def held_out(run: Run, source: DataSource, split: Split, loading: Mapping[str, Any]) -> SegmentationData:
    """Make the loaders of images that a run has not seen.

    Args:
        run: Whose preprocessing and settings they get.
        source: Images and masks.
        split: Which of them are scored.
        loading: Settings of :class:`Loading` that differ from those of training.

    Raises:
        InputError: If the images were trained on, or there are none, or something is wrong with them.
    """
    splits = source.splits()
    require_splits(splits, {split})
    if source.check:
        check_sources({split: splits[split]})
    require_unseen(run.record, splits[split], split, str(run.checkpoint))
    _tell_split(splits, split)
    settings = {**run.record["config"]["loader"], "augmentation": None, **loading}
    rebuilt = rebuild(settings, Loading, f"checkpoint={run.checkpoint}")
    if (task := task_of(run)) is not None:
        return clip_data(splits, run.untuned().preprocessing, rebuilt, 0, task)
    return SegmentationData(splits, run.untuned().preprocessing, rebuilt, seed=0)


def _tell_split(splits: Mapping[Split, ImageSet], split: Split) -> None:
    """Say so if only a part of the images is looked at."""
    chosen = splits[split]
    others = [f"{len(images)} {name}" for name, images in splits.items() if images is not chosen]
    if others:
        text = f"images: {len(chosen)} {split}; not looked at: {', '.join(others)}"
        Console(highlight=False).print(text, markup=False)
