"""A checkpoint to go on from, and what Ctrl-C and the end of a job do."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def in_main_thread() -> bool:
    """Whether signals can be taken over here."""
    return threading.current_thread() is threading.main_thread()


class ResumePoint(Checkpoint):
    """Keeps a checkpoint to go on from: every so often, at the end, and when asked to stop as soon as the step is done.

    It is only written between optimizer steps, and where a validation is due or an epoch ends, after these, so that a
    resumed run repeats nothing and leaves nothing out. It belongs after the callback that keeps the best checkpoint,
    whose state it holds. Ctrl-C asks to stop, a second one stops at once; and a cluster asks at a job's end (SIGTERM).

    Args:
        path: Of the checkpoint; replaced as a whole each time.
        minutes: Between two of them.
    """

    def __init__(self, path: str, minutes: float = 15.0) -> None:
        self.path = Path(path)
        self.seconds = 60 * minutes
        self._is_stopping = False
        self._awaits_validation = False
        self._saved_at = 0.0
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals to stop, also from Lightning, which would drop everything since the last checkpoint."""
        self._saved_at = time.monotonic()
        if in_main_thread():
            self._previous_handlers = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to and nothing else is due here."""
        if batch_idx + 1 == trainer.num_training_batches or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._awaits_validation = _validation_is_due(trainer, batch_idx)
        if not self._awaits_validation:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is time to and this was a validation between two steps of an epoch."""
        if self._awaits_validation:
            self._awaits_validation = False
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is time to."""
        self._save_if_due(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last weights, tuned longest if not best."""
        trainer.save_checkpoint(self.path)

    def _save_if_due(self, trainer: Trainer) -> None:
        """Save if the time is over or Ctrl-C asked for it.

        Raises:
            KeyboardInterrupt: In the latter case, after saving.
        """
        is_stopping, is_due = self._agree(trainer, self._is_stopping, time.monotonic() - self._saved_at > self.seconds)
        if is_stopping or is_due:
            trainer.save_checkpoint(self.path)
            self._saved_at = time.monotonic()
        if is_stopping:
            console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=not trainer.is_global_zero)
            console.print(f"\nstopped; go on with the same command and resume={self.path.parent}", markup=False)
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._is_stopping = True

    @staticmethod
    def _agree(trainer: Trainer, *wishes: bool) -> tuple[bool, ...]:
        """Whether any process wishes it, so that all save at the same step."""
        if trainer.world_size == 1:
            return wishes
        votes = torch.tensor([float(wish) for wish in wishes], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(votes)
        return tuple(bool(vote) for vote in votes.tolist())


def _validation_is_due(trainer: Trainer, batch_idx: int) -> bool:
    if trainer.check_val_every_n_epoch is None:
        batch_idx = trainer.fit_loop.total_batch_idx
    every = trainer.val_check_batch
    is_due = trainer.should_stop or (every is not None and (batch_idx + 1) % every == 0)
    return trainer.enable_validation and is_due
