"""What loading one image costs, part by part: its decoder, its masks, augmentation; and a slice of an open volume.

Images as of ``benchmarks.loading``: 1024 px, JPEG, ``--objects`` objects. Processor milliseconds, median over images.

python -m benchmarks.reading [--images 8] [--objects 100] [--chosen 16 100]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.loading import LAYOUTS, SIDE, blobs, make_images
from benchmarks.measure import machine
from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.collate import to_batch
from sam_train.data.sources.base import no_objects
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.preprocessing import Preprocessing


def milliseconds(run: Callable[[int], object], number: int) -> float:
    """Median of a processor's time over images, after one that warms up."""
    run(0)
    times = []
    for index in range(number):
        start = time.process_time()
        run(index)
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def formats(folder: Path, number: int) -> dict[str, float]:
    """Milliseconds to decode the same images, stored in several formats."""
    paths = sorted((folder / "labels" / "images").iterdir())
    found = {}
    for kind, options in {"JPEG": {"quality": 95}, "PNG": {}, "TIFF": {}, "WEBP": {"quality": 95}, "BMP": {}}.items():
        contents = []
        for path in paths:
            buffer = BytesIO()
            Image.open(path).save(buffer, kind, **options)
            contents.append(buffer.getvalue())
        found[kind] = milliseconds(lambda index: read_image(paths[index], contents[index]), number)  # noqa: B023
    return found


def parts(folder: Path, layout: str, num_chosen: int, number: int) -> list[float]:
    """Milliseconds for masks, augmentation, and the batch of one image."""
    kind = CocoSource if layout == "coco" else FolderSource
    images = kind(str(folder / layout), split=(0, 0, 1)).splits()["test"]
    augmentation, preprocessing = Augmentation(), Preprocessing(SIDE)

    def choose(shares: torch.Tensor) -> torch.Tensor:
        return torch.randperm(len(shares), generator=torch.Generator().manual_seed(0))[:num_chosen].sort().values

    image = milliseconds(lambda index: images.read(index, no_objects), number)
    samples = [images.read(index, choose) for index in range(number)]
    varied = [augmentation(sample, preprocessing, 0) for sample in samples]
    return [
        milliseconds(lambda index: images.read(index, choose), number) - image,
        milliseconds(lambda index: augmentation(samples[index], preprocessing, index), number),
        milliseconds(lambda index: to_batch(varied[index], preprocessing, (SIDE, SIDE)), number),
    ]


def slices(folder: Path, objects: str, num_slices: int = 60) -> tuple[float, float]:
    """Milliseconds to open a NIfTI volume of 512 x 512 and for a slice of it with 20 objects."""
    import nibabel

    random = np.random.default_rng(0)
    labels = np.array(Image.fromarray(blobs(random, 20)).resize((512, 512), Image.Resampling.NEAREST), np.int16)
    voxels = random.normal(0, 300, (512, 512, num_slices)).astype(np.int16)
    content = {"images": voxels, "labels": np.repeat(labels[..., None], num_slices, 2)}
    for name, array in content.items():
        (folder / "volumes" / objects / name).mkdir(parents=True)
        path = folder / "volumes" / objects / name / "a.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)  # pyright: ignore[reportPrivateImportUsage]
    images = VolumeSource(str(folder / "volumes" / objects), split=(0, 0, 1), objects=objects).splits()["test"]
    start = time.process_time()
    images.read(0)
    opened = 1000 * (time.process_time() - start)
    return opened, milliseconds(images.read, num_slices)


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--chosen", type=int, nargs="+", default=[16, 100])
    options = parser.parse_args()
    console = Console(width=120)
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder, options.images, options.objects)
        found = formats(folder, options.images)
        text = ", ".join(f"{kind} {value:.0f}" for kind, value in found.items())
        console.print(f"decoding {SIDE} x {SIDE} pixels, ms: {text}; {machine()}")
        table = Table(title=f"{SIDE} px, {options.objects} objects, processor ms an image")
        for column in ("masks", "chosen", "masks read", "augmented", "batch"):
            table.add_column(column, justify="left" if column == "masks" else "right")
        for layout, words in LAYOUTS.items():
            for chosen in options.chosen:
                costs = parts(folder, layout, chosen, options.images)
                table.add_row(words, str(chosen), *(f"{cost:.0f}" for cost in costs))
        console.print(table)
        for objects in ("labels", "components"):
            opened, cost = slices(folder, objects)
            console.print(f"NIfTI 512 x 512 x 60, {objects}: opened in {opened:.0f} ms, a slice {cost:.1f} ms")


if __name__ == "__main__":
    main()
