"""A COCO file of a million annotations: how long it takes to open, and what each loading process holds as epochs go by.

All images are links to a few copies of one small file. Memory is what is a worker's own (``Private`` of Linux's
``smaps_rollup``), not what it shares with the trainer; an epoch shows ``--shown`` images of the whole file.

python -m benchmarks.annotations [--annotations 1000000] [--images 120000] [--shown 2000] [--workers 2] [--epochs 5]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.measure import machine
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.coco.source import CocoSource
from sam_train.preprocessing import Preprocessing

SIDE = 128


def make_set(root: Path, num_annotations: int, num_images: int) -> None:
    """Write polygons of 20 points, some annotations an image, as COCO's own file has them."""
    (root / "images").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(root / "first.jpg")
    first = root / "first.jpg"
    with (root / "annotations.json").open("w") as file:
        file.write('{"categories": [{"id": 1, "name": "thing"}], "images": [')
        for index in range(num_images):
            if index % 50_000 == 0:  # a file system bounds the links of a file
                first = root / f"first{index}.jpg"
                shutil.copy(root / "first.jpg", first)
            os.link(first, root / "images" / f"{index:012}.jpg")
            record = f'{{"id": {index}, "file_name": "{index:012}.jpg", "height": {SIDE}, "width": {SIDE}}}'
            file.write(record if index == 0 else f", {record}")
        file.write('], "annotations": [')
        angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        random = np.random.default_rng(0)
        for index in range(num_annotations):
            x, y, radius = random.uniform([30, 30, 8], [SIDE - 30, SIDE - 30, 28]).tolist()
            ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).round(2).ravel().tolist()
            box = [round(x - radius, 2), round(y - radius, 2), round(2 * radius, 2), round(2 * radius, 2)]
            record = (
                f'{{"id": {index}, "image_id": {index % num_images}, "category_id": 1, "iscrowd": 0, '
                f'"area": {3.1 * radius**2:.1f}, "bbox": {box}, "segmentation": [{ring}]}}'
            )
            file.write(record if index == 0 else f", {record}")
        file.write("]}")
    for path in root.glob("first*.jpg"):
        path.unlink()


def private_megabytes(process: int) -> float:
    """Memory that a process shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--shown", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    console = Console()
    with TemporaryDirectory() as name:
        root = Path(name)
        make_set(root, options.annotations, options.images)
        size = (root / "annotations.json").stat().st_size / 1e6
        clock, used = time.perf_counter(), time.process_time()
        images = CocoSource(str(root), split=(0, 0, 1)).splits()["test"]
        clock, used = time.perf_counter() - clock, time.process_time() - used
        console.print(f"{options.annotations:,} annotations of {len(images):,} images, {size:.0f} MB, {machine()}")
        console.print(f"opened in {used:.1f} s of a processor, {clock:.1f} s by the clock")
        loading = Loading(batch_size=8, max_objects=8, min_area=0, num_workers=options.workers)
        data = SegmentationData({"train": images.some(options.shown)}, Preprocessing(SIDE), loading, seed=0)
        loader = data.train_dataloader()
        for epoch in range(options.epochs):
            for _ in loader:
                pass
            workers = sorted(child.pid or 0 for child in multiprocessing.active_children())
            held = " ".join(f"{private_megabytes(worker):.0f}" for worker in workers)
            console.print(f"after epoch {epoch + 1}: {held} MB of each worker's own")


if __name__ == "__main__":
    main()
