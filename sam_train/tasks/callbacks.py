"""What happens around the training steps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar

from sam_train.errors import InputError
from sam_train.structures import Batch
from sam_train.tasks.task import Task

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

    Args:
        dirpath: Folder of the checkpoint.
        filename: Its name without suffix.
        save_top_k: How many are kept.
        monitor: What is compared, such as ``val/iou`` or ``val/dice_box``.
        mode: ``max`` or ``min``; by default the direction of the metric that is monitored.
        options: Of :class:`ModelCheckpoint`.

    Raises:
        InputError: If several are to be kept under one name.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        save_top_k: int = 1,
        monitor: str = "val/iou",
        mode: str | None = None,
        **options: Any,
    ) -> None:
        if save_top_k != 1 and filename is not None and "{" not in filename:
            raise InputError(
                f"callbacks.best.save_top_k={save_top_k} with the one name {filename!r}: add "
                "'callbacks.best.filename=\"best-{step}\"', or leave it at 1"
            )
        settings = {"dirpath": dirpath, "filename": filename, "save_top_k": save_top_k, "monitor": monitor, **options}
        self._settings = settings if mode is None else None
        super().__init__(**settings, mode=mode or "max")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the direction of the metric that is monitored, which only the task knows.

        Raises:
            InputError: If validation measures no such metric.
        """
        if self._settings is not None:
            mode = _direction(str(self.monitor), cast(Task, pl_module))
            super().__init__(**self._settings, mode=mode)
            self._settings = None
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know what was best so far, where it lies now."""
        state = {**state_dict, "dirpath": self.dirpath}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = self._here(state[key])
        state["best_k_models"] = {self._here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state)

    def _here(self, path: str) -> str:
        return path and str(Path(str(self.dirpath), Path(path).name))


def _direction(monitor: str, task: Task) -> str:
    for metric in task.metrics:
        if monitor in (f"val/{metric.name}", *(f"val/{metric.name}_{prompt}" for prompt in task.protocols)):
            return "max" if metric.higher_is_better else "min"
    possible = ", ".join(f"val/{metric.name}" for metric in task.metrics)
    raise InputError(
        f"callbacks.best.monitor={monitor}: validation measures {possible}, each also by kind of prompt, such as "
        f"val/{task.metrics[0].name}_{next(iter(task.protocols))}"
    )


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

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw them with the masks as the model finds them now."""
        show = getattr(trainer.logger, "log_image", None)
        if show is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        pictures = [picture for batch in self._batches for picture in cast(Task, pl_module).pictures(batch)]
        show(key="val/masks", images=pictures[: self.count], step=trainer.global_step)
