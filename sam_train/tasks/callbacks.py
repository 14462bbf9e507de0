"""What happens around the training steps."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, TQDMProgressBar
from rich.console import Console

from sam_train.errors import InputError
from sam_train.inference.interaction import encode
from sam_train.inference.overlay import grid, paint, panel, prediction_panel
from sam_train.prompts.simulator import EVALUATION
from sam_train.structures import Batch
from sam_train.tasks.image import ImageTask

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LINES_EVERY = 50  # steps, where progress goes to a file


class LastValidation(Callback):
    """Has the last step validated wherever the run ends, so that its weights can be the best. Before all others."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say so where Lightning looks before it decides whether to validate."""
        is_last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.global_step == trainer.max_steps or (is_last_epoch and trainer.is_last_batch):
            trainer.should_stop = True


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best checkpoint, also of a run that is resumed after its folder was moved.

    Raises:
        InputError: If several are to be kept under one name.
    """

    def __init__(
        self, dirpath: str | Path | None = None, filename: str | None = None, save_top_k: int = 1, **options: Any
    ) -> None:
        if save_top_k != 1 and filename is not None and "{" not in filename:
            raise InputError(
                f"callbacks.best.save_top_k={save_top_k} with the one name {filename!r}: add "
                "'callbacks.best.filename=\"best-{step}\"', or leave it at 1"
            )
        super().__init__(dirpath, filename, save_top_k=save_top_k, **options)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know what was best so far, where it lies now."""
        state = {**state_dict, "dirpath": self.dirpath}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = self._here(state[key])
        state["best_k_models"] = {self._here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state)

    def _here(self, path: str) -> str:
        return path and str(Path(str(self.dirpath), Path(path).name))


class ResumePoint(Checkpoint):
    """Keeps a checkpoint to go on from: every so often, at the end, and when asked to stop as soon as the step is done.

    It is only written between optimiser steps, and where a validation is due or an epoch ends, after these, so that a
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


class RunProgress(TQDMProgressBar):
    """One bar for the whole run instead of one for each epoch, which may have two batches; rare lines in a file."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1 if sys.stdout.isatty() else LINES_EVERY)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Without the number of the logger's folder."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}

    def on_train_start(self, *_: Any) -> None:
        """Begin where the run is."""
        super().on_train_start()
        bar = self.train_progress_bar
        bar.total, bar.initial = int(self.trainer.estimated_stepping_batches), self.trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Say which it is; the bar goes on."""
        self.train_progress_bar.n = trainer.global_step
        self.train_progress_bar.set_description(f"Training, epoch {trainer.current_epoch}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the optimiser's steps."""
        step = trainer.global_step
        if self._should_update(step, self.train_progress_bar.total):
            self.train_progress_bar.n = step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module))


class ValidationOverlays(Callback):
    """Pictures of the first validation images for loggers that show images, after every validation.

    Args:
        count: How many images.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._batches: list[Batch] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remember the first images, if a logger shows any; they are the same every time."""
        if (
            hasattr(trainer.logger, "log_image")
            and len(self._batches) <= batch_idx
            and sum(len(seen.ids) for seen in self._batches) < self.count
        ):
            self._batches.append(batch.to("cpu"))

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw them with the masks as the model finds them now."""
        show = getattr(trainer.logger, "log_image", None)
        if show is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        assert isinstance(pl_module, ImageTask)
        pictures = [picture for batch in self._batches for picture in _pictures(pl_module, batch)]
        show(key="val/masks", images=pictures[: self.count], step=trainer.global_step)


def _pictures(task: ImageTask, batch: Batch) -> list[Any]:
    batch = batch.to(task.device)
    assert batch.originals is not None
    assert batch.images is not None
    features = encode(task.model, batch)
    pictures = []
    for index, truth in enumerate(batch.originals):
        if not len(truth.value):
            continue
        height, width = batch.valid_size[index].tolist()
        pixels = batch.images[index : index + 1, :, :height, :width].float()
        shown = torch.nn.functional.interpolate(pixels, truth.size, mode="bilinear")[0].byte().cpu()
        row = [("truth", panel(shown, paint(truth.each_mask(), truth.size)))]
        for name in task.protocols:
            row.append((name, prediction_panel(task.model, features, batch, index, EVALUATION[name], shown)[0]))
        pictures.append(grid([row]))
    return pictures
