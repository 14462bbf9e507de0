"""A run that someone looks at while it trains, and may stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Watch(Callback):
    """Tells how training goes, and ends it early where that is asked for; what was best so far stays.

    Args:
        tell: Is given a word (``loss`` or ``iou``), the step and the value; ``iou`` is of the validation images.
        is_stopped: Whether to end after this step.
    """

    def __init__(self, tell: Callable[[str, int, float], None], is_stopped: Callable[[], bool]) -> None:
        self.tell = tell
        self.is_stopped = is_stopped

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell the loss of the step."""
        if outputs is not None:
            self.tell("loss", trainer.global_step, float(outputs["loss"]))
        if self.is_stopped():
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the mean IoU of validation, also of the one before the first step."""
        if "val/iou" in trainer.callback_metrics:
            self.tell("iou", trainer.global_step, float(trainer.callback_metrics["val/iou"]))
