"""How many of an image's objects are among its automatic masks: COCO's average recall, before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.skipping import ForgivingImages, SkippedError
from sam_train.files import write_json
from sam_train.inference.finder import Finder
from sam_train.inference.mask_generator import Everything
from sam_train.inference.predictor import Predictor
from sam_train.metrics.coco import PredictedMask, TrueMask, score_detections
from sam_train.metrics.rle import encode_mask
from sam_train.runs.evaluate import held_out
from sam_train.runs.run import Run

LIMITS = (1, 10, 100, 1000)
"""Of an image's masks, the surest first, so many count."""

Scores = Mapping[str, float | None]


def evaluate_everything(
    run: Run,
    source: DataSource | None = None,
    split: Split = "test",
    grid: Everything | None = None,
    folder: str | Path | None = None,
) -> dict[str, Scores]:
    """Score the automatic masks of a run's models on a split and leave ``everything.json`` in a folder.

    Args:
        run: With the two models.
        source: Images and masks; by default those of the run.
        split: Which images.
        grid: How everything is looked for.
        folder: Where the file goes; by default the run's own.

    Returns:
        For the ``untuned`` and the ``tuned`` model ``AR@1``, ``AR@10``, ``AR@100``, ``AR@1000`` and ``AP``, whatever
        the objects are called.

    Raises:
        InputError: If the images were trained on, or there are none, or something is wrong with them.
    """
    folder = run.folder if folder is None else Path(folder).expanduser()
    images = held_out(run, source or run.source(), split, {}, folder).splits[split]
    finders = {name: Finder(Predictor(model), grid) for name, model in run.models().items()}
    console = Console()
    with Progress(console=console, transient=True) as progress:
        scores = score_everything(finders, images, progress)
    num_images = len(images.readable()) if isinstance(images, ForgivingImages) else len(images)
    write_json(folder / "everything.json", {"split": split, "num_images": num_images, **scores})
    console.print(_table(scores, split))
    console.print(f"report      {folder / 'everything.json'}", markup=False)
    return scores


def score_everything(
    finders: Mapping[str, Finder], images: ImageSet, progress: Progress | None = None
) -> dict[str, Scores]:
    """Compute COCO's average recall and precision of what each finder finds without a prompt.

    Regions of many things count neither for nor against a mask.
    """
    truths: list[TrueMask] = []
    found: dict[str, list[PredictedMask]] = {name: [] for name in finders}
    task = progress.add_task("images", total=len(images)) if progress else None
    for index, image in enumerate(images.ids):
        try:
            sample = images.read(index)
        except SkippedError:
            continue
        crowd = sample.crowd.tolist() if sample.crowd is not None else [False] * len(sample.value)
        for mask, is_crowd in zip(sample.each_mask(), crowd, strict=True):
            truths.append(TrueMask(image, encode_mask(mask.numpy()), is_crowd=is_crowd))
        if sample.ignore is not None and sample.ignore.any():
            truths.append(TrueMask(image, encode_mask(sample.ignore.numpy()), is_crowd=True))
        for name, finder in finders.items():
            instances = finder.everything(sample.image)
            masks = zip(instances.masks.rles(), instances.scores.tolist(), strict=True)
            found[name] += [PredictedMask(image, rle, score) for rle, score in masks]
        if progress and task is not None:
            progress.advance(task)
    return {name: score_detections(masks, truths, LIMITS, by_category=False) for name, masks in found.items()}


def _table(scores: Mapping[str, Scores], split: str) -> Table:
    table = Table(title=f"masks of everything ({split})")
    columns = [*(f"AR@{limit}" for limit in LIMITS), "AP"]
    for column in ("model", *columns):
        table.add_column(column, justify="right" if column != "model" else "left")
    for name, values in scores.items():
        cells = ["-" if values[column] is None else f"{values[column]:.3f}" for column in columns]
        table.add_row(name, *cells)
    return table
