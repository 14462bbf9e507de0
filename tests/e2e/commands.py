"""The commands as a person runs them, in this process."""

import json
import sys
from pathlib import Path

import numpy as np
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from sam_train.cli import data, evaluate, export, train

SMALL = [
    "model.image_size=64",
    "data.image_size=64",
    "data.domain=shapes",
    "data.num_train=8",
    "data.num_val=2",
    "data.num_test=3",
    "loader.batch_size=2",
    "loader.max_objects=3",
    "loader.min_area=4",
    "loader.num_workers=0",
    "trainer.accelerator=cpu",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "+trainer.enable_progress_bar=false",
    "callbacks.progress=null",
    "evaluation.overlays=1",
]
"""A run of seconds: 64 px, a few images, four steps."""


def run(command, monkeypatch, *arguments: str) -> None:
    """Run ``sam-train``, ``sam-evaluate``, ``sam-export`` or ``sam-data`` with these arguments."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", [f"sam-{command}", *arguments])
    {"train": train, "evaluate": evaluate, "export": export, "data": data}[command].main()


def assert_report(folder: Path) -> dict:
    report = json.loads((folder / "report.json").read_text())
    counts = {"num_images", "num_objects", "num_too_small"}
    assert report.keys() >= {"untuned", "tuned", "split", "metrics", "chosen_by", *counts}
    assert (folder / "rows.parquet").is_file()
    assert len((folder / "rows.csv").read_text().splitlines()) == 1 + 3 * report["num_objects"]
    for model in ("untuned", "tuned"):
        assert list(report[model]) == ["box", "point", "clicks"]
        for scores in report[model].values():
            assert scores.keys() == {"dice", "iou"}
            assert all(0 <= value <= 1 for value in scores.values())
    return report


def write_squares(folder: Path, num_images: int, first: int = 0) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(first, first + num_images):
        labels = np.zeros((64, 64), np.uint8)
        labels[8 : 24 + index, 10:40] = 1
        Image.fromarray(labels * 200).save(folder / "images" / f"{index}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{index}.png")
