"""A frozen image encoder with and without the embedding cache: images per second of training, and of reading alone.

Images of 1024 px with 16 objects from PNG files, a box for each, batches of one, the mask decoder trains; bfloat16 on
CUDA, else float32. Epochs are timed once the workers run.

python -m benchmarks.cache [--model sam_vit_b] [--objects 16] [--images 16] [--uncached 3] [--workers 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from sam_train.data.cache.embedding_cache import EmbeddingCache
from sam_train.data.cache.filling import fill
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.settings import Loading
from sam_train.data.loading.views import Views
from sam_train.data.sources.folder import FolderSource
from sam_train.inference.interaction import encode, interact
from sam_train.losses.sam_loss import SamLoss
from sam_train.models import ImageModel, build_model
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import Batch, ImageFeatures
from sam_train.tasks.feature_cache import encoder_key
from sam_train.tuning.surgery import Tuning

SIDE = 1024
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_images(folder: Path, number: int, num_objects: int) -> None:
    """Smooth pictures with a square for each object, and label images."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    columns = int(np.ceil(num_objects**0.5))
    cell = SIDE // columns
    for image in range(number):
        coarse = Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "images" / f"{image:03}.png")
        labels = np.zeros((SIDE, SIDE), np.uint8)
        for index in range(num_objects):
            top, left = index // columns * cell, index % columns * cell
            labels[top + cell // 4 : top + cell // 2, left + cell // 4 : left + cell // 2] = index + 1
        Image.fromarray(labels).save(folder / "masks" / f"{image:03}.png")


def make_data(folder: Path, model: ImageModel, num_objects: int, num_workers: int) -> SegmentationData:
    """The loaders, one image a batch, without augmentation."""
    source = FolderSource(str(folder), split=(0, 0, 1)).splits()["test"]
    loading = Loading(1, num_objects, num_workers=num_workers)
    return SegmentationData({"train": source, "val": source}, model.preprocessing, loading, seed=0)


@torch.no_grad()
def encode_batch(model: ImageModel, batch: Batch) -> ImageFeatures:
    """What the encoder says, in the precision of the run."""
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
        return encode(model, batch.to(DEVICE))


class Step:
    """A step of training on boxes; the mask decoder learns."""

    def __init__(self, model: ImageModel) -> None:
        self.model = model
        self.loss = SamLoss()
        self.simulator = PromptSimulator(box=1)
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def __call__(self, batch: Batch) -> None:
        """Encode or take the features, decode, go back, change the weights."""
        batch = batch.to(DEVICE)
        features = encode_batch(self.model, batch)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            targets = self.loss.targets(batch)
            rounds = interact(self.model.decode, features, batch, self.simulator)
            total = torch.stack([self.loss.total(self.loss(prediction, targets)) for _, prediction in rounds]).sum()
        self.optimizer.zero_grad()
        (total / batch.num_objects).backward()
        self.optimizer.step()


def seconds_per_image(data: SegmentationData, step: Callable[[Batch], object], number: int) -> float:
    """Loading and step together, over this many images of the second epoch and those after it."""
    loader = data.train_dataloader()
    for batch in loader:  # starts the workers
        step(batch)
        if data.cache is None:  # of long steps one is enough
            break
    loader.seen = len(loader)
    start = time.perf_counter()
    for batch in islice(batches(loader), number):
        step(batch)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / number


def batches(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Epoch after epoch."""
    while True:
        yield from loader


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam_vit_b")
    parser.add_argument("--objects", type=int, default=16)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--uncached", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = build_model(options.model).to(DEVICE)
    Tuning("frozen").apply(model)
    table = Table(title=f"{options.model}, {options.objects} objects, {options.workers} workers, {machine()}")
    for column in ("what", "s an image", "images/s", "times"):
        table.add_column(column, justify="left" if column == "what" else "right")
    with TemporaryDirectory() as name:
        times = measure(Path(name), model, options)
    for what, time_ in times.items():
        table.add_row(what, f"{time_:.4f}", f"{1 / time_:.2f}", f"{times[UNCACHED] / time_:.1f}")
    Console(width=120).print(table)


def measure(folder: Path, model: ImageModel, options: argparse.Namespace) -> dict[str, float]:
    """Seconds an image of each way of training, and of its parts."""
    make_images(folder / "data", options.images, options.objects)
    data = make_data(folder / "data", model, options.objects, options.workers)
    step = Step(model)
    times = {UNCACHED: seconds_per_image(data, step, options.uncached)}
    data.cache = EmbeddingCache(folder / "cache", encoder_key(model, "benchmark"))
    start = time.perf_counter()
    fill(data.cache, [Views(data.splits["train"], model.preprocessing)], partial(encode_batch, model))
    times["filling the cache, once"] = (time.perf_counter() - start) / (options.images + 1)  # one more for the shapes
    times["cached step, second epoch on"] = seconds_per_image(data, step, options.images)
    times["reading the cache and masks alone"] = seconds_per_image(data, lambda batch: None, 4 * options.images)
    return times


UNCACHED = "uncached step"

if __name__ == "__main__":
    main()
