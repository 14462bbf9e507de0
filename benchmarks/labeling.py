"""What tuning saves a person who labels: clicks per object on new images, before and after a few labeled ones.

A simulated annotator clicks in the middle of an object and then in the middle of the largest error, until the mask has
an IoU of 0.85 or ten clicks are made; an object that never gets there counts as ten. Training images are accepted with
their true masks, as on the page of sam-app, and tuned on by its button; clicks are counted on objects of test images,
which are never tuned on. Where tuning was no better on the accepted images that do not train, the page goes on with the
untuned model's masks, and so does the count.

python -m benchmarks.labeling --data DATA [--sets nuclei_fluorescence ...] [--out outputs/labeling]
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from benchmarks.real_sets import SETS, overrides, show
from sam_train.app.objects import objects_of
from sam_train.app.pictures import Picture, pictures_of_images
from sam_train.app.saving import SavedLabels
from sam_train.app.tuning import Recipe, Tuner, source_of
from sam_train.cli.build import data_source
from sam_train.cli.overrides import CONFIGS
from sam_train.data.sources.base import ImageSet
from sam_train.data.sources.folder import FolderSource
from sam_train.runs.evaluate import evaluate
from sam_train.runs.settings import Evaluation

CLICKS = 10
MEASURED = ("em_axon_myelin", "nuclei_histology", "nuclei_fluorescence")


def splits_of(name: str, options: argparse.Namespace) -> dict[Any, ImageSet]:
    """Return the images of a set."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides(name, options.data.absolute(), options.out.absolute()))
    return data_source(config.data).splits()


def save(pictures: Sequence[Picture], folder: Path, most_objects: int | None = None) -> None:
    """Accept images with their true masks, or with some of these, chosen at random."""
    saved = SavedLabels(folder, pictures, folder.name)
    for number, picture in enumerate(pictures):
        objects, pixels = objects_of(picture.known()), picture.pixels()
        order = torch.randperm(len(objects), generator=torch.Generator().manual_seed(number))[:most_objects]
        if not saved.is_saved(picture.name):
            size = (pixels.shape[1], pixels.shape[2])
            saved.accept(picture.name, size, [objects[row] for row in order.tolist()], None)


def with_objects(images: ImageSet, number: int, seed: int) -> list[Picture]:
    """Return images that have objects, chosen at random."""
    pictures = pictures_of_images(images)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed)).tolist()
    found = [pictures[row] for row in order if pictures[row].known()]
    return found[:number]


def measure(name: str, options: argparse.Namespace) -> None:
    """Tune on each number of labeled images and count clicks, unless that was done before."""
    out, splits = options.out.absolute() / name, splits_of(name, options)
    save(with_objects(splits["test"], options.images, 0), out / "held_out", options.objects)
    held_out = FolderSource(str(out / "held_out"), background=0, split=(0, 0, 1), check=False)
    pool = with_objects(splits["train"], max(options.labeled), options.seed)
    evaluation = Evaluation(protocols=("clicks",), clicks=CLICKS, overlays=0, pictures=0)
    for number in options.labeled:
        folder = out / f"tuned{number}"
        if not (folder / "report" / "report.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            save(pool[:number], folder / "labels")
            tuner = tuner_in(folder, options.steps)
            tuner.start(number)
            tuner.wait()
            tuned = tuner.current()  # of this start alone: the folder is new
            assert tuned is not None, tuner.progress.message
            evaluate(tuned.run, held_out, evaluation, folder / "report", {"num_workers": 0})


def tuner_in(folder: Path, steps: int = 0) -> Tuner:
    """Return what the page's button starts, on the labels in a folder."""
    recipe = Recipe(steps=steps, device="cpu")
    return Tuner(folder, recipe, partial(source_of, folder / "labels"), take=lambda tuned: None)


def row(folder: Path, labeled: Sequence[int]) -> list[str]:
    """Return a set's row of the table: mean clicks, and how many objects are not there after ten."""
    found = [cell(folder / f"tuned{number}") for number in labeled]
    first = next(report for report, _ in found if report)
    return [folder.name, str(first["num_objects"]), told(first["clicks"]["untuned"]), *(text for _, text in found)]


def cell(folder: Path) -> tuple[dict[str, Any], str]:
    """Return a report, empty if there is none yet, and what the table says of it."""
    if not (folder / "report" / "report.json").is_file():
        return {}, "-"
    report, tuned = json.loads((folder / "report" / "report.json").read_text()), tuner_in(folder).current()
    assert tuned is not None
    return report, "as before" if tuned.is_no_better else told(report["clicks"]["tuned"])


def told(scores: Mapping[str, Any]) -> str:
    """Return mean clicks and failures."""
    return f"{scores['noc85']:.1f} ({scores['failures85']})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not yet measured, and show all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=[*MEASURED], choices=[*SETS])
    parser.add_argument("--labeled", nargs="+", type=int, default=[5, 10, 20])
    parser.add_argument("--images", type=int, default=12, help="test images")
    parser.add_argument("--objects", type=int, default=10, help="of each")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--seed", type=int, default=0, help="of which images are labeled")
    parser.add_argument("--show", action="store_true", help="show what is there and measure nothing")
    parser.add_argument("--out", type=Path, default=Path("outputs/labeling"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for name in options.sets:
        if not options.show:
            measure(name, options)
        rows.append(row(options.out / name, options.labeled))
        print(*rows[-1], flush=True)
    header = ["set", "objects", "untuned", *(f"{number} images" for number in options.labeled)]
    show(f"clicks to IoU 0.85 of at most {CLICKS} (objects that need more)", header, rows)


if __name__ == "__main__":
    main()
