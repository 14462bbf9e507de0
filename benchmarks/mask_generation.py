"""Masks of everything: ours against ``transformers``' pipeline; same weights, image and settings, equal masks.

python -m benchmarks.mask_generation [--models sam_vit_b sam2.1_hiera_tiny] [--points 32] [--clock processor]

Both encode the image once, in time that is measured and subtracted. Weights are random but for the models that come
with some, so the threshold of the estimated IoU is put in the middle of what the model says: about half of all
candidates pass it, and of these those that are stable.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Clock, machine
from sam_train.checkpoints import load_checkpoint, save_checkpoint
from sam_train.checkpoints.reading import SHIPPED
from sam_train.data.world import ToySource
from sam_train.inference.mask_generator import Everything, MaskGenerator
from sam_train.inference.predictor import Predictor
from sam_train.models import ImageModel, build_model
from sam_train.structures import PointLabel, Prompts

SIDE = 1024


class Subtracted:
    """Counts the time spent in a method, to be taken off the whole."""

    def __init__(self, owner: Any, name: str, clock: Callable[[], float]) -> None:
        self.seconds = 0.0
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += clock() - start

        setattr(owner, name, timed)


def measured(step: Callable[[], Any], encoding: Subtracted, clock: Callable[[], float]) -> tuple[Any, float]:
    """Return what a step returns and its seconds without those of encoding."""
    encoding.seconds, start = 0.0, clock()
    found = step()
    return found, clock() - start - encoding.seconds


@torch.no_grad()
def middle_iou(predictor: Predictor, image: Image.Image) -> float:
    """Return the median of the model's IoU estimates of some clicks."""
    images = predictor.encode([image])
    points = SIDE * torch.rand(64, 1, 2, generator=torch.Generator().manual_seed(0))
    prompts = Prompts(points, torch.full((64, 1), PointLabel.OBJECT))
    return float(predictor.decode(images, prompts, torch.zeros(64, dtype=torch.long), True).iou.median())


def pipeline_of(model: ImageModel, folder: str) -> Any:
    """Return the pipeline of ``transformers`` with our weights, at our input size."""
    import transformers

    save_checkpoint(model, folder, "huggingface")
    return transformers.pipeline("mask-generation", model=folder, device="cpu")


def compare(name: str, points: int, clock: Callable[[], float]) -> tuple[str, ...]:
    """Return a row of the table."""
    torch.manual_seed(0)
    model = build_model(name, SIDE).eval()
    if name in SHIPPED:
        load_checkpoint(model, name)
    sample = ToySource("tissue", image_size=SIDE, num_train=1, num_val=1, num_test=1).splits()["train"].read(0)
    image = Image.fromarray(sample.image.permute(1, 2, 0).contiguous().numpy())
    predictor = Predictor(model)
    threshold = max(middle_iou(predictor, image), 1e-6)
    settings = Everything(points_per_side=points, pred_iou_thresh=threshold, stability_score_thresh=0.8)
    our_encoding = Subtracted(model, "encode_image", clock)
    found, ours = measured(lambda: MaskGenerator(predictor, settings).generate(image), our_encoding, clock)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = pipeline_of(model, folder)
    their_encoding = Subtracted(pipeline.model, "get_image_embeddings", clock)
    expected, theirs = measured(
        lambda: pipeline(
            image,
            points_per_crop=points,
            points_per_batch=settings.points_per_batch,
            pred_iou_thresh=threshold,
            stability_score_thresh=settings.stability_score_thresh,
        ),
        their_encoding,
        clock,
    )
    numbers = f"{len(found)}, {len(expected['masks'])}"
    return name, numbers, f"{threshold:.2f}", f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["sam_vit_b", "sam2.1_hiera_tiny"])
    parser.add_argument("--points", type=int, default=32, help="per side")
    clocks: tuple[Clock, ...] = ("wall", "processor")
    parser.add_argument("--clock", choices=clocks, default="processor")
    arguments = parser.parse_args()
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    table = Table(title=f"{machine()}, {arguments.points} points per side, {SIDE} px, encoder's time subtracted")
    for column in ("model", "masks (ours, theirs)", "IoU above", "ours, s", "transformers, s", "times as fast"):
        table.add_column(column)
    for name in arguments.models:
        table.add_row(*compare(name, arguments.points, clock))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
