"""A thousand volumes: what the first and the second start cost, and what each loading process holds as epochs go by.

Volumes are links to a few small files; an epoch shows every slice that has labels. Memory is what is a worker's own
(``Private`` of Linux's ``smaps_rollup``).

python -m benchmarks.volumes [--volumes 1000] [--workers 2] [--epochs 4] [--side 64] [--slices 16]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
from rich.console import Console

from benchmarks.annotations import private_megabytes
from benchmarks.measure import machine
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.preprocessing import Preprocessing


def make_set(root: Path, number: int, side: int, num_slices: int) -> None:
    """Write volumes with a block of label 1 in half of the slices."""
    random = np.random.default_rng(0)
    labels = np.zeros((side, side, num_slices), np.uint8)
    labels[side // 4 : side // 2, side // 4 : side // 2, : num_slices // 2] = 1
    voxels = random.integers(1, 1000, labels.shape).astype(np.int16)
    for folder, content in (("imagesTr", voxels), ("labelsTr", labels)):
        (root / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), root / f"{folder}.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
        for index in range(number):
            os.link(root / f"{folder}.nii.gz", root / folder / f"{index:05}.nii.gz")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--slices", type=int, default=16)
    options = parser.parse_args()
    console = Console()
    with TemporaryDirectory() as name:
        root = Path(name)
        make_set(root, options.volumes, options.side, options.slices)
        console.print(f"{options.volumes} volumes of {options.side} x {options.side} x {options.slices}, {machine()}")
        source = VolumeSource(str(root), index=str(root / "index"), split=(0, 0, 1))
        for start in ("first", "second"):
            clock, used = time.perf_counter(), time.process_time()
            images = source.splits()["test"]
            check_sources({"test": images})
            clock, used = time.perf_counter() - clock, time.process_time() - used
            console.print(f"{start} start: {used:.1f} s of a processor, {clock:.1f} s by the clock")
        images = source.splits()["test"]
        loading = Loading(batch_size=8, min_area=0, num_workers=options.workers)
        loader = SegmentationData({"train": images}, Preprocessing(64), loading, seed=0).train_dataloader()
        for epoch in range(options.epochs):
            for _ in loader:
                pass
            workers = sorted(child.pid or 0 for child in multiprocessing.active_children())
            held = " ".join(f"{private_megabytes(worker):.0f}" for worker in workers)
            console.print(f"after epoch {epoch + 1}: {held} MB of each worker's own")


if __name__ == "__main__":
    main()
