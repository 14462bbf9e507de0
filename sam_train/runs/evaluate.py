"""A run's tuned model beside the untuned one on held-out masks, in a table, files and pictures."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from sam_train.data.loading.clip_data import ClipData
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.settings import Loading
from sam_train.data.loading.share import Share
from sam_train.data.sources.base import DataSource, ImageSet, Split, no_objects
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.skipping import (
    ForgivingImages,
    SkippedError,
    SkippedRecords,
    begin_skipping,
    skipped_of,
    splits_of,
)
from sam_train.data.world import ToySource
from sam_train.errors import InputError
from sam_train.evaluation.comparison import Scored, score
from sam_train.evaluation.controls import SHUFFLED, quick_metrics, score_baselines, summarize_controls
from sam_train.evaluation.html import write_html
from sam_train.evaluation.partial_rows import PartialRows
from sam_train.evaluation.pictures import save_pictures
from sam_train.evaluation.report import Report
from sam_train.evaluation.row_files import write_rows
from sam_train.evaluation.summary import boxes_in, summarize
from sam_train.evaluation.volumes import score_volumes
from sam_train.metrics.base import Metric, find_metrics
from sam_train.metrics.table import mean_scores, prompts_in
from sam_train.metrics.video import VIDEO_METRICS
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.protocols import Protocol, find_protocols
from sam_train.runs.devices import as_first_says, is_first
from sam_train.runs.evaluate_clips import evaluate_clips, task_of
from sam_train.runs.fit import require_splits
from sam_train.runs.known_images import image_keys, require_unseen
from sam_train.runs.record import rebuild
from sam_train.runs.report_page import make_page
from sam_train.runs.run import Run
from sam_train.runs.settings import Evaluation
from sam_train.runs.tasks import clip_data, known_metrics
from sam_train.structures import Sample

if TYPE_CHECKING:
    import pyarrow as pa


def evaluate(
    run: Run,
    source: DataSource | None = None,
    evaluation: Evaluation | None = None,
    folder: str | Path | None = None,
    loading: Mapping[str, Any] | None = None,
) -> Report:
    """Score a run's models on a split and leave ``report.json``, ``report.html``, the rows and pictures in a folder.

    Every process of a run on several devices calls this and gets the report; the first writes. An evaluation that was
    interrupted goes on from its rows, if it is asked for once more in the same folder.

    Args:
        run: With the two models.
        source: Images and masks; by default those of the run.
        evaluation: Which split, what is measured, how many pictures; by default as in training.
        folder: Where the files go; by default the run's own.
        loading: Settings of :class:`Loading` that differ from those of training.

    Raises:
        InputError: If the images were trained on, or there are none, or no object can be scored, or something is wrong
            with them, or the folder has rows of another evaluation.
    """
    evaluation = evaluation or rebuild(run.record["config"]["evaluation"], Evaluation, f"checkpoint={run.checkpoint}")
    task = task_of(run)
    metrics = find_metrics(evaluation.metrics, known_metrics(task))
    if task is not None:  # what clips are compared by comes first
        metrics = (*VIDEO_METRICS, *(metric for metric in metrics if metric not in VIDEO_METRICS))
    protocols = find_protocols(evaluation.protocols, evaluation.clicks)
    if evaluation.controls and SHUFFLED not in protocols:
        protocols |= find_protocols([SHUFFLED])
    own_folder = folder is None
    folder = as_first_says(lambda: run.folder if folder is None else Path(folder).expanduser())
    data = run.data if source is None and loading is None else None
    data = data or held_out(run, source or run.source(), evaluation.split, loading or {}, folder)
    if isinstance(data, ClipData):
        return evaluate_clips(run, run.models(), data, evaluation, metrics, folder)
    _require_spacing(data.splits[evaluation.split], metrics)
    partial = PartialRows(folder, _what_rows_depend_on(run, data, evaluation, metrics), Share.own().rank)
    before: list[pa.Table] = []  # the first process has them
    seen = as_first_says(lambda: _read_so_far(partial, before, discards=own_folder))
    models = run.models()
    with Progress(console=_console(), transient=True) as progress:
        loader = data.eval_dataloader(evaluation.split, seen)
        with_masks = ("given", "box") if evaluation.coco else ()
        scored = score(models, loader, protocols, metrics, progress, partial, with_masks, before, seen)
        skipped = skipped_of(data.splits)
        data = _readable(data, evaluation.split)
        report = _report(run, data, evaluation, metrics, protocols, scored, skipped)
        if evaluation.coco:  # rows have masks then
            images = data.splits[evaluation.split]
            slices = {name: place for row, name in enumerate(images.ids) if (place := images.slice_of(row))}
            report = replace(report, volumes=score_volumes(scored.rows, slices, boxes_in(scored.rows), [*models]))
        if evaluation.controls:
            report = replace(report, controls=_controls(data, evaluation.split, metrics, scored))
        if evaluation.forgetting:
            report = replace(report, forgetting=_forgetting(models, data, evaluation.forgetting, metrics, progress))
    if is_first():
        _write(run, report, scored, metrics, models, data, protocols, evaluation, folder)
        if skipped:
            skipped.save(folder)
        partial.discard()
    return report


def _require_spacing(images: ImageSet, metrics: Sequence[Metric]) -> None:
    """Refuse metrics in mm of images whose pixels' size is not known, before the models are read."""
    wanted = [metric.name for metric in metrics if metric.needs_spacing]
    if wanted and _first_read(images).spacing is None:
        raise InputError(
            f"evaluation.metrics: {wanted[0]} is in mm, and the data do not say how large their pixels are "
            f"({images.ids[0]}); give their spacing, or take a metric in pixels (hd95, nsd, nsd_3px)"
        )


def _first_read(images: ImageSet) -> Sample:
    for index in range(len(images)):
        with suppress(SkippedError):
            return images.read(index, no_objects, with_image=False)
    raise InputError("no image can be read")


def _console() -> Console:
    return Console(quiet=not is_first())


def _what_rows_depend_on(
    run: Run, data: SegmentationData, evaluation: Evaluation, metrics: Sequence[Metric]
) -> dict[str, Any]:
    """Return plain values that tell rows of one evaluation from those of another."""
    with run.checkpoint.open("rb") as file:
        checkpoint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    keys = image_keys(data.splits[evaluation.split]).numpy().tobytes()
    return {
        "checkpoint": checkpoint,
        "images": hashlib.sha256(keys).hexdigest()[:16],
        "metrics": [metric.name for metric in metrics],
        "protocols": list(evaluation.protocols),
        "clicks": evaluation.clicks,
        "controls": evaluation.controls,
        "coco": evaluation.coco,
        "min_area": data.loading.min_area,
        "image_size": data.preprocessing.image_size,
    }


def _read_so_far(partial: PartialRows, before: list[pa.Table], discards: bool) -> dict[str, int]:
    """Take up the rows of an interrupted evaluation, if they are this one's; return the images that are done."""
    try:
        partial.require_own()
    except InputError:
        if not discards:
            raise
        partial.discard()
    rows, seen = partial.read()
    before += rows
    if seen:
        text = f"goes on with an evaluation that was interrupted: {len(seen)} images are scored"
        _console().print(text, markup=False)
    return seen


def _report(
    run: Run,
    data: SegmentationData,
    evaluation: Evaluation,
    metrics: Sequence[Metric],
    protocols: Mapping[str, Protocol],
    scored: Scored,
    skipped: SkippedRecords | None,
) -> Report:
    images = data.splits[evaluation.split]
    split = "val" if images is data.splits.get("val") else evaluation.split  # which may stand in for a missing test
    asked = {name: protocol.title for name, protocol in protocols.items() if not protocol.is_shuffled}
    if not asked.keys() & set(prompts_in(scored.rows)):
        raise InputError(
            f"evaluation.split={evaluation.split}: none of its {len(images)} images has an object that can be scored; "
            f"{scored.num_too_small} are smaller than loader.min_area={data.loading.min_area:g} pixels of the model's "
            "input. Give images with masks, a lower loader.min_area, or kinds of prompt that the data have"
        )
    counts = {"num_images": len(images), "num_too_small": scored.num_too_small}
    report = summarize(scored.rows, metrics, asked, counts, split, run.record["chosen_by"])
    return replace(report, skipped=skipped.numbers()) if skipped else report


def _readable(data: SegmentationData, split: Split) -> SegmentationData:
    """Return the data without the images of a split that were left out."""
    images = data.splits[split]
    if not isinstance(images, ForgivingImages):
        return data
    splits: dict[Split, ImageSet] = {**data.splits, split: images.readable()}
    if data.splits.get("val") is images:  # which stand in for a missing test
        splits["val"] = splits[split]
    readable = copy.copy(data)
    readable.splits = splits
    return readable


def _controls(data: SegmentationData, split: Split, metrics: Sequence[Metric], scored: Scored) -> dict[str, Any]:
    dataset, share, quick = data.eval_dataset(split), Share.own(), quick_metrics(metrics)
    baselines = score_baselines(dataset, range(share.rank, len(dataset), share.world_size), quick)
    return summarize_controls(scored.rows, baselines, quick)


def _forgetting(
    models: Mapping[str, PromptableModel],
    data: SegmentationData,
    num_images: int,
    metrics: Sequence[Metric],
    progress: Progress,
) -> dict[str, Any]:
    """Score both models on images of the procedural world, which neither was tuned on."""
    world = ToySource("world", num_train=0, num_val=0, num_test=num_images)
    other = SegmentationData(world.splits(), data.preprocessing, data.loading, seed=0)
    quick, protocols = quick_metrics(metrics), find_protocols(["box", "point"])
    rows = score(models, other.eval_dataloader("test"), protocols, quick, progress).rows
    scores = {name: mean_scores(rows, quick, list(protocols), name) for name in models}
    return {**scores, "num_images": num_images, "num_objects": rows.num_rows // len(protocols)}


def _write(
    run: Run,
    report: Report,
    scored: Scored,
    metrics: Sequence[Metric],
    models: Mapping[str, PromptableModel],
    data: SegmentationData,
    protocols: Mapping[str, Protocol],
    evaluation: Evaluation,
    folder: Path,
) -> None:
    """Leave all files and show the table."""
    console = _console()
    write_rows(scored.rows, folder)
    report.save(folder / "report.json")
    console.print(report.table())
    dataset = data.eval_dataset(evaluation.split)
    shown = {name: protocols[name] for name in report.tuned}
    save_pictures(models, dataset, shown, metrics, evaluation.overlays, folder / "overlays")
    page = make_page(run, report, scored.rows, metrics, models, dataset, protocols, evaluation.pictures)
    write_html(folder / "report.html", report, page)
    places = {
        "checkpoint": run.checkpoint,
        "report": folder / "report.html",
        "rows": folder / "rows.parquet",
        "pictures": folder / "overlays",
    }
    console.print("\n".join(f"{name:12}{place}" for name, place in places.items()), markup=False)


def held_out(run: Run, source: DataSource, split: Split, loading: Mapping[str, Any], folder: Path) -> SegmentationData:
    """Make the loaders of images that a run has not seen.

    Args:
        run: Whose preprocessing and settings they get.
        source: Images and masks.
        split: Which of them are scored.
        loading: Settings of :class:`Loading` that differ from those of training.
        folder: Where records are named that are left out.

    Raises:
        InputError: If the images were trained on, or there are none, or something is wrong with them.
    """
    splits = splits_of(source, folder)
    require_splits(splits, {split})
    as_first_says(lambda: begin_skipping({split: splits[split]}, anew=[split]))
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
