"""The commands as a person runs them, in this process."""

import sys

from hydra.core.global_hydra import GlobalHydra

from sam_train.cli import evaluate, export, train

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
    """``sam-train``, ``sam-evaluate`` or ``sam-export`` with these arguments."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", [f"sam-{command}", *arguments])
    {"train": train, "evaluate": evaluate, "export": export}[command].main()
