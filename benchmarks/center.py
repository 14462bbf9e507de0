"""Objects without a prompt on real images: a head (``prompter=center``) beside the grid of clicks.

Every set is trained once by a ``python train.py`` of its own: the decoder and the head beside a frozen encoder. Then
both ways find what is in the held-out images, by the same tuned decoder. Seconds are of the processor.

python -m benchmarks.center --data DATA [--sets balloon ...] [--steps 300] [--views 4] [--images 15] [--out ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.adaptation import CHEAP, REPOSITORY
from benchmarks.real_sets import SETS, overrides, show
from sam_train.inference.center_finder import CenterFinder
from sam_train.inference.finder import Finder
from sam_train.inference.mask_files import write_overlay
from sam_train.inference.mask_generator import Everything
from sam_train.inference.predictor import Predictor
from sam_train.runs.evaluate_everything import score_everything, way_of
from sam_train.runs.run import Run

SETTINGS = (
    "tuning=frozen",
    "prompter=center",
    "prompts=box",
    "loader.max_objects=4",
    "evaluation.protocols=[box]",
    "evaluation.pictures=0",
)
LOOSE = Everything(pred_iou_thresh=0.5, stability_score_thresh=0.8)
"""The thresholds that the original systems advise are too strict for a small model, which is less sure of itself."""
PICTURED = 2  # images, of which the found objects are drawn


def train(name: str, options: argparse.Namespace, folder: Path) -> None:
    """Train a set on one thread, unless that was done before."""
    if (folder / "report.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    length = (f"trainer.max_steps={options.steps}", f"trainer.val_check_interval={options.steps}")
    own = overrides(name, options.data.absolute(), options.out.absolute())
    cache = f"cache.folder={options.out.absolute() / 'embeddings'}"
    views = ("cache=on", f"cache.views={options.views}", cache) if options.views else ()
    command = [sys.executable, "train.py", *own, *SETTINGS, *length, *CHEAP, *views, f"hydra.run.dir={folder}"]
    start = os.times()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    end = os.times()
    seconds = end.children_user + end.children_system - start.children_user - start.children_system
    (folder / "seconds.json").write_text(json.dumps(seconds))


def score(folder: Path, num_images: int) -> dict[str, Any]:
    """Score both ways on the test images, or some of them."""
    run = Run.load(folder)
    run.device = torch.device("cpu")
    predictor, head = Predictor(run.tuned()), run.head()
    assert head is not None
    assert run.categories is not None
    by_head = Finder(predictor, center=CenterFinder(predictor, head, run.categories))
    images = run.source().splits()["test"].some(num_images)
    for index in range(min(PICTURED, len(images))):
        pixels = images.read(index).image
        write_overlay(folder / f"found_{index}.png", pixels, by_head.find(pixels).label_image())
    ways = {"grid": Finder(predictor), "loose grid": Finder(predictor, LOOSE), "head": by_head}
    scores = score_everything({name: way_of(of) for name, of in ways.items()}, images, clock=time.process_time)
    return {"num_images": len(images), **scores}


def row(name: str, scores: dict[str, Any], seconds: float) -> list[str]:
    """Return a row of the table: of each measure the grid's, the loose grid's and the head's."""

    def each(column: str, digits: int) -> str:
        values = [scores[way][column] for way in ("grid", "loose grid", "head")]
        return " / ".join("-" if value is None else f"{value:.{digits}f}" for value in values)

    columns = [each("AP", 3), each("AP50", 3), each("AR@100", 3), each("AR@1000", 3), each("decodes", 0)]
    return [name, str(scores["num_images"]), *columns, each("seconds", 2), f"{seconds:.0f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score what is not yet, and show all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=15)
    parser.add_argument("--views", type=int, default=4, help="of an image that are cached; 0: a new one each time")
    parser.add_argument("--out", type=Path, default=Path("outputs/center"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for name in options.sets:
        folder = options.out.absolute() / name
        train(name, options, folder)
        scores = folder / "scores.json"
        if not scores.is_file():
            scores.write_text(json.dumps(score(folder, options.images), indent=2))
        seconds = json.loads((folder / "seconds.json").read_text())
        rows.append(row(name, json.loads(scores.read_text()), seconds))
        print(*rows[-1], flush=True)
    header = ["set", "images", "AP", "AP50", "AR@100", "AR@1000", "decodes an image", "seconds an image", "training s"]
    show("grid / loose grid / head", header, rows)


if __name__ == "__main__":
    main()
