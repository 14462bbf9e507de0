"""Fine-tuning an image model: the step, its validation, and what its checkpoints hold."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from sam_train.data.loading.seeds import seed_of
from sam_train.errors import InputError
from sam_train.inference.interaction import encode, interact
from sam_train.inference.scoring import ObjectScore, gather_scores, mean_scores, score_batch
from sam_train.losses.sam_loss import LossTerms, SamLoss
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import EVALUATION, PromptSimulator
from sam_train.structures import Batch, ImageFeatures
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import frozen_parts


class DivergenceError(InputError):
    """The loss or its gradient stopped being a number; weights and checkpoints are those of before."""


class ImageTask(LightningModule):
    """Trains a promptable model on simulated prompts. What dropout draws follows torch's seed at its making.

    Args:
        model: With its weights loaded and tuning applied.
        simulator: The person who prompts in training.
        loss: Of each round; the rounds' losses are summed.
        optimization: Optimiser and schedule.
        record: Plain values that checkpoints carry, enough to build the model again.
        keep_base: Whether checkpoints also hold what does not train. Needless where the base model's weights can be
            read again from a file.
    """

    def __init__(
        self,
        model: PromptableModel,
        simulator: PromptSimulator,
        loss: SamLoss,
        optimization: Optimization,
        record: dict[str, Any],
        keep_base: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.simulator = simulator
        self.loss = loss
        self.optimization = optimization
        self.record = record
        self.keep_base = keep_base
        self.seed = torch.initial_seed()
        self.protocols = {name: EVALUATION[name] for name in simulator.validated_by()}
        self._scores: list[ObjectScore] = []  # of the batches validated so far
        # Of the batches since the optimiser's last step:
        self._num_objects = 0
        self._terms: list[Tensor] = []  # each as LossTerms
        self._samples: list[tuple[str, ...]] = []  # of each batch

    def train(self, mode: bool = True) -> ImageTask:
        """Training mode, except for what is frozen."""
        super().train(mode)
        for module in frozen_parts(self.model):
            module.eval()
        return self

    def configure_optimizers(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """AdamW over what trains, its schedule stepped every optimiser step."""
        optimizer = self.optimization.optimizer(self.model)
        schedule = self.optimization.schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def encode(self, batch: Batch) -> ImageFeatures:
        """Features of the batch's images; no graph through an encoder in which nothing trains."""
        trains = any(parameter.requires_grad for parameter in self.model.encoding_parameters())
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            return encode(self.model, batch)

    def loss_terms(self, batch: Batch) -> LossTerms:
        """The terms of the loss summed over the batch's objects and the rounds of prompts."""
        features = self.encode(batch)
        targets = self.loss.targets(batch)
        rounds = [
            self.loss(prediction, targets)
            for _, prediction in interact(self.model.decode, features, batch, self.simulator)
        ]
        return LossTerms(*(torch.stack(values).sum() for values in zip(*rounds, strict=True)))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Have dropout draw as a function of seed, step and device alone, so that a resumed run has the same."""
        torch.manual_seed(seed_of("step", self.seed, self.trainer.fit_loop.total_batch_idx, self.trainer.global_rank))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss summed over objects and rounds; :meth:`on_before_optimizer_step` makes it a mean."""
        terms = self.loss_terms(batch)
        total = self.loss.total(terms)
        self._terms.append(torch.stack(terms).detach())
        self._num_objects += batch.num_objects
        self._samples.append(batch.ids)
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the sum over objects into the mean over those of all devices and accumulated batches; log the loss.

        Lightning has divided by the number of accumulated batches and DDP by that of devices; both are undone, so that
        the gradient is the same however the objects were split.

        Raises:
            DivergenceError: On every device, if the loss of any was not finite, or the gradient is not.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        terms = torch.stack(self._terms)
        are_bad = ~terms.isfinite().all(dim=1)
        is_steep = torch.zeros_like(are_bad[0])
        if self.trainer.scaler is None:  # a scaler of fp16 gradients tries how far it can go and skips such steps
            is_steep = ~torch.nn.utils.get_total_norm(gradients).isfinite()
        count = torch.tensor(float(self._num_objects), device=self.device)
        own = torch.stack([count, are_bad.any(), is_steep, *terms.sum(dim=0)])
        num_objects, any_bad, any_steep, *sums = self._sum_over_devices(own).tolist()
        if any_bad:
            bad = [ids for ids, is_bad in zip(self._samples, are_bad.tolist(), strict=True) if is_bad]
            raise DivergenceError(self._divergence("loss", bad))
        if any_steep:
            raise DivergenceError(self._divergence("gradient", self._samples))
        scale = self.trainer.accumulate_grad_batches * self.trainer.world_size / num_objects
        for gradient in gradients:
            gradient.mul_(scale)
        num_rounds = self.simulator.corrections + 1
        means = LossTerms(*(torch.tensor(value / (num_objects * num_rounds), dtype=torch.double) for value in sums))
        self.log("train/loss", self.loss.total(means), prog_bar=True)
        for name, value in means._asdict().items():
            self.log(f"train/{name}", value)
        self._num_objects = 0
        self._terms = []
        self._samples = []

    def _sum_over_devices(self, value: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(value)
        return value

    def _divergence(self, what: str, batches: list[tuple[str, ...]]) -> str:
        samples = [name for ids in batches for name in ids]
        shares: list[list[str]] = [samples]
        if self.trainer.world_size > 1:
            shares = [[] for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(shares, samples)
        names = ", ".join(sorted({name for share in shares for name in share}))
        return (
            f"the {what} is not finite at step {self.trainer.global_step}, on a batch of: {names}. The last checkpoint "
            "is from before. Look at these images first; then try a lower optim.lr, or trainer.precision=32"
        )

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Score every object by the protocols that fit the training prompts."""
        self._scores.extend(score_batch(self.model, batch, self.protocols))

    def on_validation_epoch_end(self) -> None:
        """Means over all objects of all devices.

        Raises:
            InputError: If there are none to choose the best checkpoint by.
        """
        scores = gather_scores(self._scores)
        self._scores = []
        means = mean_scores(scores)
        if not means:
            raise InputError(
                "no validation image has an object as large as loader.min_area asks (in pixels of the model's input): "
                "lower it, raise model.image_size, look at more images (loader.max_val_images=null), or give "
                "validation images with larger objects"
            )
        for prompt, values in means.items():
            self.log(f"val/iou_{prompt}", values["iou"])
            self.log(f"val/dice_{prompt}", values["dice"])
        self.log("val/iou", sum(values["iou"] for values in means.values()) / len(means), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what cannot be read again from elsewhere, and the record."""
        checkpoint["sam_train"] = self.record
        if not self.keep_base:
            changing = self._changing()
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: value for name, value in state.items() if name in changing}

    def _changing(self) -> set[str]:
        """Names of the parameters that train and of the buffers beside them."""
        frozen = {id(buffer) for part in frozen_parts(self.model) for buffer in part.buffers()}
        names = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return names | {name for name, buffer in self.named_buffers() if id(buffer) not in frozen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fill in what was left out from the base model this task was built around."""
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
