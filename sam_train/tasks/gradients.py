"""The gradient of an optimizer step: a mean over objects, whatever batches, parts and devices they came in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning import Trainer
from torch import Tensor
from torch.nn import Parameter


class DivergenceError(RuntimeError):
    """The loss or its gradient stopped being a number; weights and checkpoints are those of before."""


class StepGradients:
    """Remembers what the batches since the last optimizer step were made of."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._num_objects = 0
        self._terms: list[Tensor] = []
        self._samples: list[tuple[str, ...]] = []

    def note(self, terms: Tensor, num_objects: int, samples: tuple[str, ...]) -> None:
        """Remember a batch or a part of one: its loss terms summed over its objects, their number, its images' ids."""
        self._terms.append(terms)
        self._num_objects += num_objects
        self._samples.append(samples)

    def average(
        self, trainer: Trainer, parameters: Sequence[Parameter], device: torch.device, num_rounds: int
    ) -> list[float]:
        """Turn gradients of sums over objects into those of the mean; return the mean of each loss term over objects.

        Lightning has divided by the number of accumulated batches and DDP by that of devices; both are undone, so that
        the gradient is the same however the objects were split.

        Args:
            trainer: Says how many batches and devices there were.
            parameters: That have the gradients.
            device: For sums over devices.
            num_rounds: Rounds of prompts that each term is a sum over, too.

        Raises:
            DivergenceError: On every device, if the loss of any was not finite, or the gradient is not.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        terms = torch.stack(self._terms)
        are_bad = ~terms.isfinite().all(dim=1)
        is_steep = torch.zeros_like(are_bad[0])
        if trainer.scaler is None:  # a scaler of fp16 gradients tries how far it can go and skips such steps
            is_steep = ~torch.nn.utils.get_total_norm(gradients).isfinite()
        count = torch.tensor(float(self._num_objects), device=device)
        own = torch.stack([count, are_bad.any(), is_steep, *terms.sum(dim=0)])
        if trainer.world_size > 1:
            torch.distributed.all_reduce(own)
        num_objects, any_bad, any_steep, *sums = own.tolist()
        if any_bad:
            bad = [ids for ids, is_bad in zip(self._samples, are_bad.tolist(), strict=True) if is_bad]
            raise DivergenceError(_divergence(trainer, "loss", bad))
        if any_steep:
            raise DivergenceError(_divergence(trainer, "gradient", self._samples))
        scale = trainer.accumulate_grad_batches * trainer.world_size / num_objects
        for gradient in gradients:
            gradient.mul_(scale)
        self._clear()
        return [value / (num_objects * num_rounds) for value in sums]


def _divergence(trainer: Trainer, what: str, batches: list[tuple[str, ...]]) -> str:
    samples = [name for ids in batches for name in ids]
    shares: list[list[str]] = [samples]
    if trainer.world_size > 1:
        shares = [[] for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(shares, samples)
    names = ", ".join(sorted({name for share in shares for name in share}))
    return (
        f"the {what} is not finite at step {trainer.global_step}, on a batch of: {names}. The last checkpoint is from "
        "before. Look at these images first; then try a lower optim.lr, or trainer.precision=32"
    )
