"""What is found of an image's objects without a prompt: COCO's precision and recall, and what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from sam_train.data.loading.boxes import UNNAMED
from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.skipping import ForgivingImages, SkippedError
from sam_train.evaluation.everything_page import write_everything_page
from sam_train.files import write_json
from sam_train.inference.center_finder import CenterFinder
from sam_train.inference.finder import Finder
from sam_train.inference.instances import Instances
from sam_train.inference.mask_generator import Everything
from sam_train.inference.predictor import Predictor
from sam_train.metrics.coco import PredictedMask, TrueMask, score_detections
from sam_train.metrics.rle import encode_mask
from sam_train.runs.evaluate import held_out
from sam_train.runs.run import Run

LIMITS = (1, 10, 100, 1000)
"""Of an image's masks, the surest first, so many count."""

COLUMNS = (*(f"AR@{limit}" for limit in LIMITS), "AP", "AP50", "decodes", "seconds")
NAMED = "AP by name"
_POOR = 0.05  # recall of a grid that finds next to nothing

Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Way:
    """A way to find objects.

    Attributes:
        find: From an image to what is found in it.
        num_decoded: Returns how many objects the decoder was asked for so far.
        has_names: Whether what is found has the names of the data.
    """

    find: Callable[[UInt8[Tensor, "3 h w"]], Instances]
    num_decoded: Callable[[], int] = lambda: 0
    has_names: bool = False


def evaluate_everything(
    run: Run,
    source: DataSource | None = None,
    split: Split = "test",
    grid: Everything | None = None,
    folder: str | Path | None = None,
) -> dict[str, Scores]:
    """Score what a run's models find without a prompt; leave ``everything.json`` and ``everything.html`` in a folder.

    Args:
        run: With the two models.
        source: Images and masks; by default those of the run.
        split: Which images.
        grid: How everything is looked for.
        folder: Where the files go; by default the run's own.

    Returns:
        For the grid of clicks of the ``untuned`` and the ``tuned`` model, and for the ``head`` if the run trained one:
        ``AR@1``, ``AR@10``, ``AR@100``, ``AR@1000``, ``AP`` and ``AP50``, whatever the objects are called; and for an
        image ``decodes``, objects that the decoder was asked for, and ``seconds``. Of a head on data with names
        ``AP by name``, too.

    Raises:
        InputError: If the images were trained on, or there are none, or something is wrong with them.
    """
    folder = run.folder if folder is None else Path(folder).expanduser()
    images = held_out(run, source or run.source(), split, {}, folder).splits[split]
    console = Console()
    with Progress(console=console, transient=True) as progress:
        scores = score_everything(_ways(run, grid), images, progress)
    num_images = len(images.readable()) if isinstance(images, ForgivingImages) else len(images)
    write_json(folder / "everything.json", {"split": split, "num_images": num_images, **scores})
    title = f"what is found without a prompt ({num_images} {split} images)"
    columns = [*COLUMNS, *[NAMED] * any(NAMED in of for of in scores.values())]
    write_everything_page(folder / "everything.html", title, columns, scores)
    console.print(_table(title, columns, scores))
    if max(scores[name]["AR@1000"] or 0 for name in run.models()) < _POOR and (
        hint := (grid or Everything()).hint("prompts")
    ):
        console.print(hint, markup=False)
    console.print(f"report      {folder / 'everything.html'}", markup=False)
    return scores


def _ways(run: Run, grid: Everything | None) -> dict[str, Way]:
    ways = {}
    for name, model in run.models().items():
        predictor = Predictor(model)
        ways[name] = way_of(Finder(predictor, grid))
        if name == "tuned" and (head := run.head()) is not None:
            assert run.categories is not None
            ways["head"] = way_of(Finder(predictor, grid, center=CenterFinder(predictor, head, run.categories)))
    return ways


def way_of(finder: Finder) -> Way:
    """Return the way that a finder finds objects without a prompt: by its head, or else by the grid of clicks."""
    find = finder.everything if finder.center is None else finder.named
    has_names = finder.center is not None and finder.center.categories != (UNNAMED,)
    return Way(find, lambda: finder.predictor.num_decoded, has_names)


def score_everything(
    ways: Mapping[str, Way],
    images: ImageSet,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Scores]:
    """Compute COCO's average recall and precision of what is found in each way without a prompt, and what it takes.

    Regions of many things count neither for nor against a mask.
    """
    truths: list[TrueMask] = []
    found: dict[str, list[PredictedMask]] = {name: [] for name in ways}
    taken = {name: [0.0, 0.0] for name in ways}  # decodes and seconds
    task = progress.add_task("images", total=len(images)) if progress else None
    num_read = 0
    for index, image in enumerate(images.ids):
        if progress and task is not None:
            progress.advance(task)
        try:
            sample = images.read(index)
        except SkippedError:
            continue
        num_read += 1
        crowd = sample.crowd.tolist() if sample.crowd is not None else [False] * len(sample.value)
        names = sample.category or ("",) * len(crowd)
        for mask, is_crowd, name in zip(sample.each_mask(), crowd, names, strict=True):
            truths.append(TrueMask(image, encode_mask(mask.numpy()), name, is_crowd=is_crowd))
        if sample.ignore is not None and sample.ignore.any():
            ignored = encode_mask(sample.ignore.numpy())
            truths += [TrueMask(image, ignored, name, is_crowd=True) for name in images.categories or ("",)]
        for name, way in ways.items():
            before, start = way.num_decoded(), clock()
            instances = way.find(sample.image)
            taken[name][0] += way.num_decoded() - before
            taken[name][1] += clock() - start
            rows = zip(instances.masks.rles(), instances.scores.tolist(), instances.categories, strict=True)
            found[name] += [PredictedMask(image, rle, score, called or "") for rle, score, called in rows]
    has_names = len({truth.category for truth in truths}) > 1
    scores: dict[str, Scores] = {}
    for name, masks in found.items():
        of_way = score_detections(masks, truths, LIMITS, by_category=False)
        decodes, seconds = (total / max(num_read, 1) for total in taken[name])
        of_way |= {"decodes": decodes, "seconds": seconds}
        if has_names and ways[name].has_names:
            of_way[NAMED] = score_detections(masks, truths)["AP"]
        scores[name] = of_way
    return scores


def _table(title: str, columns: list[str], scores: Mapping[str, Scores]) -> Table:
    table = Table(title=title)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    for name, values in scores.items():
        found = [values.get(column) for column in columns]
        cells = ["-" if value is None else f"{value:.3f}" for value in found]
        cells[columns.index("decodes")] = f"{values['decodes']:.0f}"
        table.add_row(name, *cells)
    return table
