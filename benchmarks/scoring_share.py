"""What scoring adds to the model's own time: both models, all metrics, on objects in images of 1024 px.

The model's own time is encoding, prompts and decoding by the same protocols. Scoring adds masks at the images' size,
all metrics (outlines in other processes), the masks' run lengths and rows. Seconds of the processors that this process
and its children used, so that other work on the machine does not count; where there is a processor for the children,
those of this process alone are what a person waits for.

python -m benchmarks.scoring_share [--images 4] [--preset sam2_nano] [--protocols box,point] [--device cpu]

The weights must be trained ones: masks of random weights are noise, whose outlines are all there is.
"""

from __future__ import annotations

import argparse
import copy
import resource
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.measure import machine
from sam_train.data.loading.dataset import EvalDataset
from sam_train.data.loading.loader import BatchLoader
from sam_train.data.world.source import ToyImages
from sam_train.evaluation.comparison import score
from sam_train.inference.scoring import encode_all, predict_rounds
from sam_train.metrics import METRICS
from sam_train.prompts.protocols import find_protocols
from sam_train.runs.run import base_model
from sam_train.runs.settings import ModelChoice
from sam_train.structures import Batch


class Seconds(NamedTuple):
    """Of this process, of its children, and by the clock."""

    own: float
    children: float
    clock: float


def timed(work: Callable[[], object]) -> Seconds:
    """Measure some work."""

    def now() -> Seconds:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        child = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Seconds(time.process_time(), child.ru_utime + child.ru_stime, time.monotonic())

    before = now()
    work()
    return Seconds(*(after - first for after, first in zip(now(), before, strict=True)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--preset", default="sam2_nano")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--protocols", default="box,point")
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    untuned = base_model(ModelChoice(options.preset, options.weights, 1024), seed=0).eval().to(options.device)
    models = {"untuned": untuned, "tuned": copy.deepcopy(untuned)}
    dataset = EvalDataset(ToyImages("tissue", "test", options.images, 1024), untuned.preprocessing, min_area=16)
    batches = [dataset[index] for index in range(len(dataset))]
    protocols = find_protocols(options.protocols.split(","), options.clicks)

    @torch.no_grad()
    def predict(some: list[Batch]) -> None:
        for batch in some:
            there = batch.to(options.device)
            features = encode_all(models, there)
            for protocol in protocols.values():
                for name, model in models.items():
                    for _, rounds in predict_rounds(model, features[name], there, 0, protocol):
                        for _ in rounds:
                            pass

    def evaluate() -> None:
        loader = BatchLoader(dataset, 1)
        with Progress(disable=True) as progress:
            score(models, loader, protocols, METRICS, progress, with_masks=("box",))

    predict(batches[:1])  # warm
    loading = timed(lambda: [dataset[index] for index in range(len(dataset))])
    own, scored = timed(lambda: predict(batches)), timed(evaluate)
    objects = sum(batch.num_objects for batch in batches)
    title = f"{objects} objects in {len(batches)} images of 1024 px, {options.preset}, {options.protocols}"
    table = Table("", "this process", "its children", "by the clock", title=title)
    table.add_row("the models alone", *(f"{value:.1f} s" for value in own))
    table.add_row("scored (without loading)", *(f"{a - b:.1f} s" for a, b in zip(scored, loading, strict=True)))
    ratio = (scored.own - loading.own) / own.own
    whole = (scored.own + scored.children - loading.own) / own.own
    Console().print(
        table, f"{ratio:.2f} times the models' own time, with the children {whole:.2f}", machine(), sep="\n"
    )


if __name__ == "__main__":
    main()
