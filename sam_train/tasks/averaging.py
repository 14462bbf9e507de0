"""A moving average of the weights beside those that train."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(WeightAveraging):
    """Validates, and keeps as best, an exponential moving average of the weights (Polyak and Juditsky 1992).

    The n-th step counts 1 - d with d = min(``decay``, (1 + n) / (10 + n)), so that early averages are short and forget
    the random start (TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``). Buffers are not averaged.

    A checkpoint's ``state_dict`` is the average; the weights that train lie beside it for a run that goes on.
    Lightning's own ``EMAWeightAveraging`` validates the initial weights until its first step, rounds frozen weights
    anew every step, saves those once more, and at the end gives up the weights that training would go on from.

    It belongs after callbacks that show what validation sees: they run before the average is taken back.

    Args:
        decay: Of later steps; 0.999 is reached after 9000 and averages over about the last thousand.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        super().__init__(use_buffers=False, multi_avg_fn=partial(_update, decay))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the average where training happens; the weights are not there yet."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing yet: the last checkpoint is still to be written."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model."""
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The average in place of the weights; beside it those that train, without what does not."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if state := checkpoint.get("current_model_state"):
            frozen = {name for name, parameter in pl_module.named_parameters() if not parameter.requires_grad}
            checkpoint["current_model_state"] = {name: value for name, value in state.items() if name not in frozen}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Both again; what does not train is the same in both, and the task has filled it in."""
        if state := checkpoint.get("current_model_state"):
            checkpoint["current_model_state"] = {**checkpoint["state_dict"], **state}
        super().on_load_checkpoint(trainer, pl_module, checkpoint)


def _update(decay: float, averages: list[Tensor], weights: list[Tensor], num_averaged: Tensor) -> None:
    """One step of all averages; what is equal stays so to the last bit."""
    count = int(num_averaged)
    get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averages, weights, num_averaged)
