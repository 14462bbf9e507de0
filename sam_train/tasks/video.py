"""Fine-tuning a model that follows objects: the step on clips, and its validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sam_train.data.loading.clip_batch import ClipBatch
from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.inference.clip_scoring import score_clip
from sam_train.inference.film import film_strip
from sam_train.inference.following import CLIP_PROTOCOLS, MASK
from sam_train.losses.clip_loss import FrameTargets, clip_terms
from sam_train.losses.sam_loss import LossTerms, SamLoss
from sam_train.metrics.base import Metric
from sam_train.metrics.video import VIDEO_METRICS
from sam_train.models.sam2.clip import track_clip
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.prompts.clip_person import ClipPerson
from sam_train.prompts.protocols import Protocol
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import ImageFeatures
from sam_train.tasks.clip_training import ClipTraining
from sam_train.tasks.image import ImageTask
from sam_train.tuning.optimization import Optimization


class VideoTask(ImageTask):
    """Trains a model to follow objects through clips; all that is not about clips is as for images.

    Args:
        model: With its weights loaded and tuning applied.
        training: Which frames are prompted, and how.
        loss: Of each round on each frame; these losses are summed.
        optimization: Optimizer and schedule.
        record: Plain values that checkpoints carry, enough to build the model again.
        keep_base: Whether checkpoints also hold what does not train.
        metrics: What validation measures.
        protocols: What is said of an object where it first appears, by which validation follows it.
    """

    model: TrackingModel

    def __init__(
        self,
        model: TrackingModel,
        training: ClipTraining,
        loss: SamLoss,
        optimization: Optimization,
        record: dict[str, Any],
        keep_base: bool,
        metrics: Sequence[Metric] = VIDEO_METRICS,
        protocols: Mapping[str, Protocol] | None = None,
    ) -> None:
        only_masks = {MASK: CLIP_PROTOCOLS[MASK]}
        super().__init__(
            model,  # pyright: ignore[reportArgumentType]
            PromptSimulator(point=1),
            loss,
            optimization,
            record,
            keep_base,
            metrics,
            protocols or only_masks,
        )
        self.clip_training = training

    def encode_frames(self, batch: ClipBatch) -> list[ImageFeatures]:
        """Encode all frames of all clips at once; return the features of each frame."""
        return self.encode(batch.every_frame()).chunk(len(batch.frames))

    def loss_terms(self, batch: ClipBatch) -> LossTerms:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Sum the terms of the loss over objects, frames and rounds of prompts."""
        kind, schedule = self.clip_training.draw(batch.known.cpu(), torch.Generator().manual_seed(batch.seed))
        clip = track_clip(
            self.model,
            self.encode_frames(batch),
            batch.object_image,
            ClipPerson(batch.frames, kind),
            schedule,
            checkpoint_activations=self.clip_training.checkpoint_activations,
        )
        truth: dict[int, FrameTargets] = {}
        for frame, known in enumerate(batch.known):
            if known.any() and frame in clip.rounds:
                objects = None if known.all() else known.nonzero()[:, 0]
                content = batch.frames[frame] if objects is None else batch.frames[frame].with_objects(objects)
                truth[frame] = FrameTargets(self.loss.targets(content), objects)
        if not truth:  # nothing is known beyond what was given: no loss, and a graph for every device
            zero = sum(
                (prediction.logits.sum() for rounds in clip.rounds.values() for prediction in rounds),
                start=torch.zeros((), device=batch.known.device),
            )
            return LossTerms(*[0.0 * zero] * 4)
        return clip_terms(self.loss, clip.rounds, truth)

    def training_step(self, batch: ClipBatch, batch_index: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the loss of a batch; the mean over objects comes later, as for images."""
        terms = self.loss_terms(batch)
        self._step.note(torch.stack(terms).detach(), batch.num_objects, batch.ids)
        return self.loss.total(terms)

    def validation_step(self, batch: HeldOutClip, batch_index: int) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Follow a clip by each protocol and score its objects."""
        self._rows.append(score_clip({"": self.model}, batch, self.protocols, self.metrics))

    @torch.no_grad()
    def pictures(self, batch: HeldOutClip) -> list[Image.Image]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw a strip of frames with what the model finds."""
        return [film_strip({"": self.model}, batch)]
