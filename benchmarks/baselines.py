"""An untuned model with tight boxes against what a box gives without a model, on held-out real images.

Filled box; Otsu's threshold of the gray values in the box; GrabCut of OpenCV from the box. IoU and Dice at the
original size, means over the objects of the test split that are large enough for ``loader.min_area``; the model's are
the untuned box scores in the ``report.json`` of a run. The last row is of procedural images as the shipped models were
trained on, but not the same ones.

python -m benchmarks.baselines --data DATA [--sets balloon ...] [--out outputs/baselines] [--settings model=... ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import cv2
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from jaxtyping import Bool, UInt8

from benchmarks.real_sets import SETS, overrides, show
from sam_train.cli.build import settings_of
from sam_train.cli.overrides import CONFIGS
from sam_train.inference.scoring import score_batch
from sam_train.metrics import DICE, IOU
from sam_train.metrics.base import MaskPairs
from sam_train.prompts.protocols import EVALUATION
from sam_train.runs.fit import make_data
from sam_train.runs.run import base_model
from sam_train.runs.settings import Settings

WORLD = ["data=toy", "data.domain=world", "data.num_test=60"]
GRABCUT_ITERATIONS = 5


class Box(NamedTuple):
    """The pixels ``[top:bottom, left:right]``."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def around(cls, mask: Bool[np.ndarray, "h w"]) -> Box:
        """The smallest that holds the whole mask."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        return cls(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """That part of an image or mask."""
        return pixels[self.top : self.bottom, self.left : self.right]

    def widened(self, height: int, width: int) -> Box:
        """With half of its size more on each side, as far as there is image."""
        down, across = -(-(self.bottom - self.top) // 2), -(-(self.right - self.left) // 2)
        return Box(
            max(self.top - down, 0),
            max(self.left - across, 0),
            min(self.bottom + down, height),
            min(self.right + across, width),
        )


def filled_box(image: UInt8[np.ndarray, "h w 3"], box: Box) -> Bool[np.ndarray, "b c"]:
    """Every pixel of the box."""
    return np.ones((box.bottom - box.top, box.right - box.left), bool)


def otsu(image: UInt8[np.ndarray, "h w 3"], box: Box) -> Bool[np.ndarray, "b c"]:
    """The brighter or the darker pixels, whichever are fewer on the edge of the box; all, where all are equal."""
    gray = cv2.cvtColor(np.ascontiguousarray(box.of(image)), cv2.COLOR_RGB2GRAY)
    if gray.min() == gray.max():
        return filled_box(image, box)
    bright = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1] > 0
    edge = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    return bright if edge.mean() <= 0.5 else ~bright


def grabcut(image: UInt8[np.ndarray, "h w 3"], box: Box) -> Bool[np.ndarray, "b c"]:
    """GrabCut on the box and half its size around it; all of the box, where there is nothing around it."""
    frame = box.widened(*image.shape[:2])
    if frame == box:
        return filled_box(image, box)
    rectangle = (box.left - frame.left, box.top - frame.top, box.right - box.left, box.bottom - box.top)
    crop = cv2.cvtColor(np.ascontiguousarray(frame.of(image)), cv2.COLOR_RGB2BGR)
    classes = np.zeros(crop.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(crop, classes, rectangle, *models, GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_RECT)
    inside = Box(rectangle[1], rectangle[0], rectangle[1] + rectangle[3], rectangle[0] + rectangle[2]).of(classes)
    return (inside == cv2.GC_FGD) | (inside == cv2.GC_PR_FGD)


BASELINES: dict[str, Callable[[UInt8[np.ndarray, "h w 3"], Box], Bool[np.ndarray, "b c"]]] = {
    "filled box": filled_box,
    "Otsu": otsu,
    "GrabCut": grabcut,
}


class Score(NamedTuple):
    """Of one object."""

    iou: float
    dice: float


def configured(settings: list[str]) -> Settings:
    """What ``python train.py`` would run with."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return settings_of(compose("train", settings))


def score_baseline(
    predict: Callable[[UInt8[np.ndarray, "h w 3"], Box], Bool[np.ndarray, "b c"]],
    image: UInt8[np.ndarray, "h w 3"],
    truth: Bool[np.ndarray, "h w"],
) -> Score:
    """Of one object; outside its box there is neither truth nor prediction."""
    box = Box.around(truth)
    inside = torch.from_numpy(np.ascontiguousarray(box.of(truth)))
    pair = MaskPairs(torch.from_numpy(predict(image, box))[None], inside[None])
    return Score(**{metric.name: metric(pair).item() for metric in (IOU, DICE)})


def score_all(settings: list[str]) -> dict[str, list[Score]]:
    """Each method's scores of the same objects."""
    run = configured(settings)
    model = base_model(run.model, run.seed).eval()
    dataset = make_data(run, model.preprocessing, {"test"}, Path("outputs")).eval_dataset("test")
    scores: dict[str, list[Score]] = {name: [] for name in (*BASELINES, run.model.preset)}
    for index in range(len(dataset)):
        batch = dataset[index]
        assert batch.originals is not None
        image = np.ascontiguousarray(dataset.images.read(index).image.permute(1, 2, 0).numpy())
        for name, predict in BASELINES.items():
            scores[name] += [score_baseline(predict, image, truth) for truth in batch.originals[0].masks().numpy()]
        found = score_batch({"": model}, batch, {"box": EVALUATION["box"]}, (IOU, DICE))
        scores[run.model.preset] += [Score(row["iou"], row["dice"]) for row in found.to_pylist()]
    assert len({len(values) for values in scores.values()}) == 1, "all methods must have seen the same objects"
    return scores


def main() -> None:
    """Score every set and print the tables of IoU and Dice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=[*SETS, "world"], choices=[*SETS, "world"])
    parser.add_argument("--out", type=Path, default=Path("outputs/baselines"), help="where converted sets go")
    parser.add_argument("--settings", nargs="+", default=[], help="more key=value of the command line")
    options = parser.parse_args()
    results = {}
    for name in options.sets:
        settings = WORLD if name == "world" else overrides(name, options.data.absolute(), options.out.absolute())
        results[name] = score_all([*settings, *options.settings])
        print(name, *(f"{method} {fmean(s.iou for s in scores):.3f}" for method, scores in results[name].items()))
    for metric in Score._fields:
        rows = []
        for name, methods in results.items():
            means = {method: fmean(getattr(score, metric) for score in scores) for method, scores in methods.items()}
            best = max(means.values())
            cells = (f"**{mean:.3f}**" if mean == best else f"{mean:.3f}" for mean in means.values())
            rows.append([name, str(len(next(iter(methods.values())))), *cells])
        title = f"{'IoU' if metric == 'iou' else 'Dice'} from tight boxes, untuned, test split"
        show(title, ["set", "objects", *next(iter(results.values()))], rows)


if __name__ == "__main__":
    main()
