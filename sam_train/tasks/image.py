"""Fine-tuning an image model: the step, its validation, and what its checkpoints hold."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint

from sam_train.data.loading.seeds import seed_of
from sam_train.errors import InputError
from sam_train.inference.interaction import encode, interact
from sam_train.inference.overlay import validation_pictures
from sam_train.inference.scoring import score_batch
from sam_train.losses.center_loss import CenterTerms
from sam_train.losses.sam_loss import LossTerms, SamLoss
from sam_train.metrics import DICE, IOU
from sam_train.metrics.base import Metric
from sam_train.metrics.table import gather_rows, mean_scores
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.protocols import Protocol, find_protocols
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import NUM_DRAWS, Batch, ImageFeatures
from sam_train.tasks.center_training import CenterLearner, boxes_of_masks
from sam_train.tasks.gradients import StepGradients
from sam_train.tasks.micro_batches import loss_in_parts, split_batch
from sam_train.tasks.task import Task
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import frozen_parts

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


class ImageTask(Task):
    """Trains a promptable model on simulated prompts. What dropout draws follows torch's seed when the task is made.

    Args:
        model: With its weights loaded and tuning applied.
        simulator: The person who prompts in training.
        loss: Of each round; the rounds' losses are summed.
        optimization: Optimizer and schedule.
        record: Plain values that checkpoints carry, enough to build the model again. Read for ``micro_batch``, images
            whose gradient is computed at once, ``micro_objects``, objects of an image decoded at once, and ``horizon``,
            the step at which the learning rate reaches its end; where one is missing or None, there is no bound.
        keep_base: Whether checkpoints also hold what does not train. Needless where the base model's weights can be
            read again from a file.
        metrics: What validation measures.
        protocols: Kinds of prompt that validation scores; by default those that fit the training prompts.
        prompter: A head that learns beside the model to find objects without a prompt; None for none. What the model
            learns is the same to the last bit.
    """

    def __init__(
        self,
        model: PromptableModel,
        simulator: PromptSimulator,
        loss: SamLoss,
        optimization: Optimization,
        record: dict[str, Any],
        keep_base: bool,
        metrics: Sequence[Metric] = (DICE, IOU),
        protocols: Mapping[str, Protocol] | None = None,
        prompter: CenterLearner | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.prompter = prompter
        self.simulator = simulator
        self.loss = loss
        self.optimization = optimization
        self.record = record
        self.keep_base = keep_base
        self.metrics = metrics
        fitting = find_protocols(simulator.validated_by())
        self.protocols = protocols or {name: replace(one, has_curve=False) for name, one in fitting.items()}
        self.seed = torch.initial_seed()
        self._rows: list[pa.Table] = []  # of the batches validated so far
        self._step = StepGradients()
        self._prompter_step = StepGradients()

    def train(self, mode: bool = True) -> ImageTask:
        """Set training mode, except for what is frozen."""
        super().train(mode)
        for module in frozen_parts(self.model):
            module.eval()
        return self

    def configure_optimizers(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return AdamW over what trains; its schedule moves on with every optimizer step.

        The step at which the schedule ends is written into the record, so that a run that is resumed for longer keeps
        the rates it had.
        """
        optimizer = self.optimization.optimizer(self.model)
        if self.prompter is not None:
            optimizer.add_param_group(self.prompter.group())
        horizon = self.record.get("horizon") or int(self.trainer.estimated_stepping_batches)
        self.record["horizon"] = horizon
        schedule = self.optimization.schedule(optimizer, horizon)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def encode(self, batch: Batch) -> ImageFeatures:
        """Encode the batch's images; without a graph through an encoder in which nothing trains."""
        trains = any(parameter.requires_grad for parameter in self.model.encoding_parameters())
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            return encode(self.model, batch)

    def loss_terms(self, batch: Batch) -> LossTerms:
        """Sum the terms of the loss over the batch's objects and the rounds of prompts."""
        return self._model_terms(self.encode(batch), batch)

    def _model_terms(self, features: ImageFeatures, batch: Batch) -> LossTerms:
        at_once = self.record.get("micro_objects") or max(batch.num_objects, 1)
        if batch.num_objects <= at_once:
            return self._object_terms(features, batch)
        groups = [batch.with_objects(objects) for objects in torch.arange(batch.num_objects).split(at_once)]
        # Each group is computed once more for its gradient, so that the graph of only one of them is held.
        terms = [checkpoint(self._object_terms, features, group, use_reentrant=False) for group in groups]
        return _sum_terms(terms)  # pyright: ignore[reportArgumentType]

    def _object_terms(self, features: ImageFeatures, batch: Batch) -> LossTerms:
        targets = self.loss.targets(batch)
        rounds = interact(self.model.decode, features, batch, self.simulator)
        return _sum_terms([self.loss(prediction, targets) for _, prediction in rounds])

    def loss_of(self, batch: Batch) -> Tensor:
        """See :meth:`Task.loss_of`; with that of the head that finds objects."""
        if self.prompter is None:
            return self.loss.total(self.loss_terms(batch))
        features = self.encode(batch)
        return self.loss.total(self._model_terms(features, batch)) + self._prompter_loss(features, batch, noted=False)

    def _prompter_loss(self, features: ImageFeatures, batch: Batch, noted: bool) -> Tensor:
        """Return the loss of the head, summed over all objects of the images, those that do not train included."""
        assert self.prompter is not None
        assert batch.everything is not None, "the loaders were not asked for the boxes of all objects"
        terms = self.prompter.terms(features, batch.everything)
        if noted:
            self._prompter_step.note(torch.stack(terms).detach(), len(batch.everything.boxes), batch.ids)
        return self.prompter.loss.total(terms)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Have dropout draw as a function of seed, step and device alone, so that a resumed run has the same."""
        torch.manual_seed(seed_of("step", self.seed, self.trainer.fit_loop.total_batch_idx, self.trainer.global_rank))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss summed over objects and rounds; :meth:`on_before_optimizer_step` makes it a mean.

        A batch of more than ``micro_batch`` images comes in parts with the same gradient, but for batch norms that
        train (MobileSAM's, with ``tuning=full``), which see one part at a time, and dropout, which draws for each.
        """
        parts = list(split_batch(batch, self.record.get("micro_batch") or len(batch.ids)))

        def noted_loss(part: Batch) -> Tensor:
            features = self.encode(part)
            terms = self._model_terms(features, part)
            self._step.note(torch.stack(terms).detach(), part.num_objects, part.ids)
            loss = self.loss.total(terms)
            return loss if self.prompter is None else loss + self._prompter_loss(features, part, noted=True)

        if len(parts) == 1:
            return noted_loss(batch)
        scaler = self.trainer.scaler
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return loss_in_parts(noted_loss, parts, trained, 1.0 if scaler is None else float(scaler.get_scale()))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the sum over objects into the mean over those of all devices and accumulated batches; log the loss.

        Raises:
            DivergenceError: On every device, if the loss of any was not finite, or the gradient is not.
        """
        own, of_prompter = self._trained(optimizer)
        means = self._step.average(self.trainer, own, self.device, self.simulator.corrections + 1)
        terms = LossTerms(*(torch.tensor(value, dtype=torch.double) for value in means))
        self.log("train/loss", self.loss.total(terms), prog_bar=True)
        for name, value in terms._asdict().items():
            self.log(f"train/{name}", value)
        if self.prompter is not None:
            found = self._prompter_step.average(self.trainer, of_prompter, self.device, 1)
            for name, value in zip(CenterTerms._fields, found, strict=True):
                self.log(f"train/center_{name}", value)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of the model and that of the head that finds objects each by its norm, or all values."""
        if self.prompter is None or not gradient_clip_val or gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        for parameters in self._trained(optimizer):
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def _trained(self, optimizer: torch.optim.Optimizer) -> tuple[list[Parameter], list[Parameter]]:
        """Return what trains of the model, and of the head that finds objects."""
        of_prompter = [] if self.prompter is None else [*self.prompter.parameters()]
        others = {id(parameter) for parameter in of_prompter}
        every = (parameter for group in optimizer.param_groups for parameter in group["params"])
        return [parameter for parameter in every if id(parameter) not in others], of_prompter

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Score every object by each protocol."""
        self._rows.append(score_batch({"": self.model}, batch, self.protocols, self.metrics))

    def on_validation_epoch_end(self) -> None:
        """Log the means over all objects of all devices.

        Raises:
            InputError: If there are none to choose the best checkpoint by.
        """
        means = mean_scores(gather_rows(self._rows), self.metrics, list(self.protocols))
        self._rows = []
        if not means:
            raise InputError(
                "no validation image has an object as large as loader.min_area asks (in pixels of the model's input): "
                "lower it, raise model.image_size, look at more images (loader.max_val_images=null), or give "
                "validation images with larger objects"
            )
        several = self.trainer.world_size > 1  # they all have the same numbers, but Lightning cannot know
        for metric in self.metrics:
            values = {prompt: of_prompt[metric.name] for prompt, of_prompt in means.items()}
            for prompt, value in values.items():
                self.log(f"val/{metric.name}_{prompt}", value, sync_dist=several)
            self.log(f"val/{metric.name}", sum(values.values()) / len(values), prog_bar=True, sync_dist=several)
        words = (f"{name} {prompt} {value:.4f}" for prompt, of in means.items() for name, value in of.items())
        log.info("step %d: %s", self.trainer.global_step, ", ".join(words))

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

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[Image.Image]:
        """See :meth:`Task.pictures`."""
        return validation_pictures(self.model, batch.to(self.device), self.protocols, self.metrics)

    def example(self, num_objects: int) -> Batch:
        """See :meth:`Task.example`; its objects are discs of many sizes."""
        side = self.model.preprocessing.image_size
        generator = torch.Generator().manual_seed(num_objects)
        center = torch.rand(num_objects, 2, 1, 1, generator=generator) * side
        radius = torch.linspace(side / 32, side / 4, num_objects)[:, None, None]
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        size = torch.tensor([[side, side]])
        batch = Batch(
            images=torch.randint(0, 256, (1, 3, side, side), generator=generator, dtype=torch.uint8),
            masks=torch.hypot(rows - center[:, 0], columns - center[:, 1]) <= radius,
            object_image=torch.zeros(num_objects, dtype=torch.long),
            valid_size=size,
            original_size=size,
            draws=torch.rand(num_objects, NUM_DRAWS, generator=generator),
            ids=("an image of noise",),
        )
        return batch if self.prompter is None else replace(batch, everything=boxes_of_masks(batch))


def _sum_terms(parts: Sequence[LossTerms]) -> LossTerms:
    return LossTerms(*(torch.stack(values).sum() for values in zip(*parts, strict=True)))
