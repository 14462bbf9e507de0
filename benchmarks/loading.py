"""Loading training batches with the default augmentation: images per second, and what memory each worker holds.

Images of 1024 px for SAM, 100 objects each, in JPEG files with 16-bit label images, with one file per object, with
COCO's run lengths, and with SA-1B's JSON beside them: in files and in tars.
Workers are started by a first epoch; the epochs after it are timed, by the clock and by the processor time of all
workers, which other work on the machine changes less. Memory is what a worker holds when an epoch is done, with
libraries and shared memory, and the most it ever held.

python -m benchmarks.loading [--images 48] [--objects 100] [--chosen 16 100] [--workers 0 1 2 4] [--epochs 3]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.sa1b.source import Sa1bSource
from sam_train.metrics.rle import encode_mask
from sam_train.preprocessing import Preprocessing

SIDE = 1024


def picture(random: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Smooth at several scales, and the noise of a camera: as dear to decode as a photograph."""
    pixels = random.normal(0, 4, (SIDE, SIDE, 3))
    for cells, strength in ((4, 0.5), (32, 0.3), (128, 0.2)):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        pixels += strength * np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
    return pixels.clip(0, 255).astype(np.uint8)


def blobs(random: np.random.Generator, num_objects: int) -> UInt16[np.ndarray, "h w"]:
    """Objects of wavy outline and of several sizes, one in each cell of a square grid."""
    labels = np.zeros((SIDE, SIDE), np.uint16)
    columns = int(np.ceil(num_objects**0.5))
    cell = SIDE // columns
    y, x = np.mgrid[:cell, :cell] - cell / 2
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    for index in range(num_objects):
        top, left = index // columns * cell, index % columns * cell
        wave = 1 + 0.15 * np.sin(random.integers(2, 6) * angle + random.uniform(0, 6))
        inside = radius < cell * random.uniform(0.15, 0.42) * wave
        labels[top : top + cell, left : left + cell][inside] = index + 1
    return labels


def make_images(folder: Path, number: int, num_objects: int) -> None:
    """Write images with label images (``labels/``), files of objects (``files/``) and run lengths (the others)."""
    random = np.random.default_rng(0)
    for layout in LAYOUTS:
        for part in ("images", "masks"):
            (folder / layout / part).mkdir(parents=True)
    images, annotations = [], []
    for image in range(number):
        pixels, labels = Image.fromarray(picture(random)), blobs(random, num_objects)
        images.append({"id": image, "file_name": f"{image:03}.jpg", "height": SIDE, "width": SIDE})
        for value in range(1, num_objects + 1):
            runs = {"segmentation": encode_mask(labels == value), "area": int((labels == value).sum())}
            annotations.append({"id": len(annotations), "image_id": image, "category_id": 1, **runs})
        said = {"image": images[-1], "annotations": annotations[-num_objects:]}
        (folder / "loose" / "images" / f"{image:03}.json").write_text(json.dumps(said))
        for layout in LAYOUTS:
            pixels.save(folder / layout / "images" / f"{image:03}.jpg", quality=95)
        Image.fromarray(labels).save(folder / "labels" / "masks" / f"{image:03}.png")
        (folder / "files" / "masks" / f"{image:03}").mkdir()
        for value in range(1, num_objects + 1):
            mask = Image.fromarray((labels == value).astype(np.uint8) * 255)
            mask.save(folder / "files" / "masks" / f"{image:03}" / f"{value:03}.png")

    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "blob"}]}
    (folder / "coco" / "annotations.json").write_text(json.dumps(content))
    files = sorted((folder / "loose" / "images").iterdir())
    for start in range(0, len(files), PER_TAR):
        with tarfile.open(folder / "tars" / f"{start:06}.tar", "w") as tar:
            for file in files[start : start + PER_TAR]:
                tar.add(file, file.name)


class Row(NamedTuple):
    """What one setting gave."""

    images_per_second: float
    images_per_processor_second: float
    first_epoch: list[float]
    last_epoch: list[float]
    peak: list[float]


def measure(root: Path, num_chosen: int, num_workers: int, batch_size: int, epochs: int) -> Row:
    """Images per second over the epochs after the first, and the workers' megabytes; of this process if none."""
    kinds = {"coco": CocoSource, "loose": Sa1bSource, "tars": Sa1bSource}
    source = kinds.get(root.name, FolderSource)(str(root), split=(0, 0, 1)).splits()["test"]
    loading = Loading(batch_size, num_chosen, num_workers=num_workers, augmentation=Augmentation())
    data = SegmentationData({"train": source}, Preprocessing(SIDE), loading, seed=0)
    loader = data.train_dataloader()
    for _ in loader:
        pass
    first_epoch = [megabytes(process, "VmRSS") for process in workers()]
    start, start_used = time.perf_counter(), processor_seconds()
    num_images = sum(len(batch.ids) for _ in range(epochs) for batch in loader)
    seconds, used = time.perf_counter() - start, processor_seconds() - start_used
    last_epoch, peak = ([megabytes(process, kind) for process in workers()] for kind in ("VmRSS", "VmHWM"))
    return Row(num_images / seconds, num_images / used, first_epoch, last_epoch, peak)


def workers() -> list[int | str]:
    """The loading processes; this one if there are none."""
    return sorted(child.pid or 0 for child in multiprocessing.active_children()) or ["self"]


def processor_seconds() -> float:
    """What the loading processes have used so far, in user and system mode."""
    fields = (Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in workers())
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def megabytes(process: int | str, kind: str) -> float:
    """Resident memory of a process, as Linux tells it: ``VmRSS`` now, ``VmHWM`` at its most."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--chosen", type=int, nargs="+", default=[16, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    options = parser.parse_args()
    table = Table(title=f"{SIDE} px, {options.objects} objects, batches of {options.batch}, {machine()}")
    speed, memory = ("images/s", "a core's images/s"), ("MB after epoch 1", f"after {options.epochs + 1}", "peak")
    for column in ("masks", "chosen", "workers", *speed, *memory):
        table.add_column(column, justify="left" if column == "masks" else "right")
    with TemporaryDirectory() as name:
        make_images(Path(name), options.images, options.objects)
        for layout in options.layouts:
            for num_chosen in options.chosen:
                for num_workers in options.workers:
                    row = measure(Path(name) / layout, num_chosen, num_workers, options.batch, options.epochs)
                    rates = (f"{rate:.2f}" for rate in row[:2])
                    held = (" ".join(f"{value:.0f}" for value in values) for values in row[2:])
                    table.add_row(LAYOUTS[layout], str(num_chosen), str(num_workers), *rates, *held)
    Console(width=140).print(table)


LAYOUTS = {
    "labels": "label image",
    "files": "file per object",
    "coco": "COCO run lengths",
    "loose": "SA-1B's JSON, files",
    "tars": "SA-1B's JSON, tars",
}
PER_TAR = 8  # images and JSON files

if __name__ == "__main__":
    main()
