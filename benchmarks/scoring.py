"""What metrics cost: 1,000 pairs of masks with objects of about 100 x 100 px in images of 1024 px, in one process.

Each metric is measured alone, from whole masks, as all of them together are; MONAI's functions within the same boxes
stand beside them. Making the masks is not counted.

python -m benchmarks.scoring [--pairs 1000] [--size 100] [--side 1024] [--peers 50]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import torch
from pycocotools import mask as mask_utils
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from sam_train.metrics import METRICS
from sam_train.metrics.base import MaskPairs
from sam_train.metrics.rle import encode_crop, encode_mask

AT_ONCE = 32  # objects, as sam_train.inference.scoring has them


def make_pairs(number: int, size: int, side: int) -> Iterator[MaskPairs]:
    """Yield wavy blobs anywhere in an image beside the same blobs with outlines that are a few pixels off."""
    rng = np.random.default_rng(0)
    place = np.arange(side)
    for start in range(0, number, AT_ONCE):
        masks = np.zeros((2, min(AT_ONCE, number - start), side, side), bool)
        for one, other in zip(*masks, strict=True):
            x0, y0 = rng.uniform(0.6 * size, side - 0.6 * size, 2)
            y, x = place[:, None] - y0, place - x0
            angle, distance, radius = np.arctan2(y, x), np.hypot(y, x), size / 2 * rng.uniform(0.8, 1.1)
            outline = radius * (1 + 0.1 * np.sin(5 * angle + rng.uniform(0, 6)))
            other[:] = distance < outline
            one[:] = distance < outline + 2 + 2 * np.sin(9 * angle)
        yield MaskPairs(torch.from_numpy(masks[0]), torch.from_numpy(masks[1]))


def encode_by_pycocotools(pairs: MaskPairs) -> None:
    """Encode masks of the whole image for COCO as its own library does."""
    for mask in pairs.predicted.numpy():
        mask_utils.encode(np.asfortranarray(mask))


def encode_whole(pairs: MaskPairs) -> None:
    """Encode masks of the whole image for COCO."""
    for mask in pairs.predicted.numpy():
        encode_mask(mask)


def encode_crops(pairs: MaskPairs) -> None:
    """Encode the same masks where they have been cut out for the metrics."""
    for crop in pairs.crops:
        encode_crop(crop.predicted, crop.corner, crop.image_size)


def monai(pairs: MaskPairs) -> None:
    """Compute HD95 and NSD by MONAI's functions, within the same boxes."""
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice

    for crop in pairs.crops:
        ours, theirs = (torch.from_numpy(mask)[None, None].float() for mask in (crop.predicted, crop.truth))
        with warnings.catch_warnings(action="ignore"):  # of an argument of MONAI's own
            compute_hausdorff_distance(ours, theirs, include_background=True, percentile=95)
            compute_surface_dice(ours, theirs, [2.0], include_background=True)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--peers", type=int, default=50, help="pairs that MONAI's functions get")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps: dict[str, Callable[[MaskPairs], object]] = {metric.name: metric for metric in METRICS}
    steps["boxes and crops alone"] = lambda pairs: pairs.crops
    steps["all five"] = lambda pairs: [metric(pairs) for metric in METRICS]
    steps["masks to RLE by pycocotools"] = encode_by_pycocotools
    steps["masks to RLE"] = encode_whole
    steps["crops to RLE"] = encode_crops
    seconds: dict[str, float] = defaultdict(float)
    for step in steps.values():  # what is imported once is not a pair's
        step(next(make_pairs(1, options.size, options.side)))
    monai(next(make_pairs(1, options.size, options.side)))
    peers = 0
    for pairs in make_pairs(options.pairs, options.size, options.side):
        for name, step in steps.items():
            own = MaskPairs(pairs.predicted, pairs.truth)  # of which nothing has been computed yet
            if step is encode_crops:
                assert own.crops  # are there from scoring
            start = time.process_time()
            step(own)
            seconds[name] += time.process_time() - start
        if peers < options.peers:
            peers += len(pairs.crops)
            start = time.process_time()
            monai(pairs)
            seconds["MONAI's HD95 and NSD"] += time.process_time() - start
    title = f"objects of {options.size} px in images of {options.side} px, one thread, {machine()}"
    table = Table("", "pairs", "seconds of a processor", "ms a pair", title=title)
    for name, value in seconds.items():
        number = peers if name.startswith("MONAI") else options.pairs
        table.add_row(name, str(number), f"{value:.2f}", f"{1000 * value / number:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
