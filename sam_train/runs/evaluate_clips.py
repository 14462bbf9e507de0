"""A run's tuned model beside the untuned one on held-out clips: a table, files and films."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from sam_train.data.loading.clip_data import ClipData
from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.errors import InputError
from sam_train.evaluation.clips import mean_curves, mean_volumes, save_films, score_clips, tracking
from sam_train.evaluation.html import write_html
from sam_train.evaluation.report import Report
from sam_train.evaluation.row_files import write_rows
from sam_train.evaluation.summary import summarize
from sam_train.inference.following import CLIP_PROTOCOLS
from sam_train.metrics.base import Metric
from sam_train.models import ImageModel
from sam_train.runs.devices import is_first
from sam_train.runs.record import rebuild
from sam_train.runs.report_page import make_clip_page
from sam_train.runs.run import Run
from sam_train.runs.settings import Evaluation
from sam_train.structures import Batch
from sam_train.tasks.clip_training import ClipTraining


def evaluate_clips(
    run: Run,
    models: Mapping[str, ImageModel],
    data: ClipData,
    evaluation: Evaluation,
    metrics: Sequence[Metric],
    folder: Path,
) -> Report:
    """Score a run's models on the clips of a split; leave reports, rows and ``films/`` in a folder.

    Raises:
        InputError: If no object has a frame after the one it is prompted on.
    """
    console = Console(quiet=not is_first())
    loader = data.eval_dataloader(evaluation.split)
    with Progress(console=console, transient=True) as progress:
        rows, num_too_small = score_clips(
            tracking(models),
            _each(loader),
            len(loader),
            CLIP_PROTOCOLS,
            metrics,
            progress,
            evaluation.corrected_frames,
        )
    if not rows.num_rows:
        raise InputError(
            f"evaluation.split={evaluation.split}: no object of these clips has an annotated frame after its first "
            "one, so there is nothing to compare with"
        )
    counts = {"num_images": data.num_held_out(evaluation.split), "num_too_small": num_too_small}
    split = "val" if data.splits[evaluation.split] is data.splits.get("val") else evaluation.split
    report = summarize(
        rows,
        metrics,
        {name: protocol.title for name, protocol in CLIP_PROTOCOLS.items()},
        counts,
        split,
        run.record["chosen_by"],
        unit="clips and images" if data.images(evaluation.split) else "clips",
    )
    report = replace(report, volumes=mean_volumes(rows, [*models]), interactive=mean_curves(rows, [*models]))
    if is_first():
        write_rows(rows, folder)
        report.save(folder / "report.json")
        console.print(report.table())
        films = folder / "films"
        paths = save_films(tracking(models), data.first_clips(evaluation.split, evaluation.overlays), films)
        write_html(folder / "report.html", report, make_clip_page(run, report, paths))
        places = {"report": folder / "report.html", "rows": folder / "rows.parquet", "films": films}
        lines = [f"{name:12}{place}" for name, place in {"checkpoint": run.checkpoint, **places}.items()]
        console.print("\n".join(lines), markup=False)
    return report


def _each(loader: Iterable[object]) -> Iterator[HeldOutClip | Batch]:
    for one in loader:
        assert isinstance(one, (HeldOutClip, Batch))
        yield one


def task_of(run: Run) -> ClipTraining | None:
    """Return how a run was trained to follow objects; None if it was trained on images."""
    described = run.record["config"].get("task")
    return None if described is None else rebuild(described, ClipTraining, f"checkpoint={run.checkpoint}")
