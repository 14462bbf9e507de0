"""Following objects through a clip: one pure step from a frame and what is remembered to masks and a fuller memory.

:meth:`TrackingModel.track` is made of parts that training uses one by one, since it looks back once per frame and then
decodes several rounds of prompts: ``recall``, ``segment`` or ``adopt``, and ``remember``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sam_train.models.promptable import PromptableModel
from sam_train.models.sam2.mask_decoder import Sam2MaskDecoder
from sam_train.models.sam2.memory import FrameMemory
from sam_train.models.sam2.memory_bank import FORWARD, INFERENCE, Course, MemoryBank, TrackingRules
from sam_train.preprocessing import resize_logits
from sam_train.structures import ImageFeatures, MaskPrediction, PointLabel, Prompts

GIVEN_LOGIT = 10.0  # of a pixel that is given, not predicted, to be inside; minus that outside
ABSENT_LOGIT = -1024.0  # everywhere on a frame that the object is not in


class TrackingModel(FrameMemory, PromptableModel):
    """A promptable model that remembers."""

    sam_mask_decoder: Sam2MaskDecoder

    @abstractmethod
    def without_memory(self, features: ImageFeatures) -> ImageFeatures:
        """Return features of frames that nothing is remembered for, as the mask decoder reads them."""

    def track(
        self,
        features: ImageFeatures,
        prompts: Prompts | None,
        object_image: Int[Tensor, "P"],
        bank: MemoryBank,
        frame: int,
        *,
        masks: Bool[Tensor, "P S S"] | None = None,
        looks_back: bool = True,
        conditioning: bool | None = None,
        course: Course = FORWARD,
        rules: TrackingRules = INFERENCE,
    ) -> tuple[MaskPrediction, MemoryBank]:
        """Return the masks of P objects on a frame, and the bank in which the frame is remembered.

        All P objects are treated alike; where some are prompted and others are not, split them (:meth:`MemoryBank.of`)
        and put the banks together again (:meth:`MemoryBank.cat`). Without prompts and masks, objects are followed.

        Args:
            features: Features of B frames, one of each clip, from :meth:`encode_image`.
            prompts: What is said of the objects on this frame. ``prompts.masks`` are the logits of an earlier
                prediction on the same frame, which the official predictor clamps to -32..32.
            object_image: Index of each object's clip.
            bank: What is remembered of the objects; of all of them something, or of none anything.
            frame: Index of the frame in its clip.
            masks: The objects' masks, given in the frame of the input: they are the prediction.
            looks_back: Look at the bank. The official predictor does not on frames that are prompted before objects
                were followed through them.
            conditioning: Remember the frame for good; by default where there are prompts or masks.
            course: The way through the clips.
            rules: How objects are followed.

        Returns:
            Candidates as of :meth:`decode`: three for at most one point, else one, which may be there three times. The
            object score changes no logit; see :func:`empty_where_absent`.
        """
        if masks is not None:
            prediction = self.adopt(masks)
        else:
            recalled = None
            if looks_back and any(one.conditioning or one.tracked for one in bank.objects):
                recalled = self.recall(features, object_image, bank, frame, course, rules)
            prediction = self.segment(features, recalled, prompts, object_image, rules)
        is_prompted = prompts is not None or masks is not None
        conditioning = is_prompted if conditioning is None else conditioning
        remembered = self.remember(
            features,
            prediction,
            object_image,
            bank,
            frame,
            masks=masks,
            is_prompted=is_prompted,
            conditioning=conditioning,
            rules=rules,
        )
        return prediction, remembered

    def segment(
        self,
        features: ImageFeatures,
        recalled: Float[Tensor, "P C h w"] | None,
        prompts: Prompts | None,
        object_image: Int[Tensor, "P"],
        rules: TrackingRules = INFERENCE,
        multimask: bool | Bool[Tensor, "P"] | None = None,
    ) -> MaskPrediction:
        """Return masks of P objects as :meth:`track` does; nothing is remembered.

        Args:
            features: Features of B frames, one of each clip.
            recalled: Each object's embedding from :meth:`recall`; None to look back on nothing.
            prompts: What is said of the objects on this frame; None for nothing.
            object_image: Index of each object's clip.
            rules: How objects are followed.
            multimask: As of :meth:`decode`; by default three candidates for objects with at most one point.
        """
        if prompts is None:
            prompts = _no_points(object_image, features.embedding)
        if multimask is None:  # a box is two points
            may_be_many = prompts.labels.shape[1] > 1
            multimask = (prompts.labels != PointLabel.EMPTY.value).sum(dim=1) <= 1 if may_be_many else True
        if recalled is None:
            features = self.without_memory(features)
        return self._decode(features, recalled, prompts, object_image, multimask, rules.stable_masks)

    def adopt(self, masks: Bool[Tensor, "P S S"]) -> MaskPrediction:
        """Return masks that are given in the frame of the input as if they were predicted; an empty one is absent."""
        logits, side = _given_logits(masks), masks.shape[-1] // 4
        return MaskPrediction(
            logits=F.interpolate(logits, (side, side), mode="bilinear", align_corners=False, antialias=True),
            iou=logits.new_ones(len(masks), 1),
            object_score=torch.where(masks.flatten(1).any(dim=1), GIVEN_LOGIT, -GIVEN_LOGIT),
        )

    def remember(
        self,
        features: ImageFeatures,
        prediction: MaskPrediction,
        object_image: Int[Tensor, "P"],
        bank: MemoryBank,
        frame: int,
        *,
        masks: Bool[Tensor, "P S S"] | None = None,
        is_prompted: bool,
        conditioning: bool,
        rules: TrackingRules = INFERENCE,
    ) -> MemoryBank:
        """Return the bank and in it, of each object, the frame with the mask that the model thinks best.

        Args:
            features: Features of B frames, one of each clip.
            prediction: What is remembered of the P objects.
            object_image: Index of each object's clip.
            bank: What is remembered of the objects so far.
            frame: Index of the frame in its clip; what was remembered of it is replaced.
            masks: The masks that the prediction was made of by :meth:`adopt`.
            is_prompted: Whether the prediction follows prompts or masks.
            conditioning: Remember the frame for good.
            rules: How objects are followed.
        """
        shown = empty_where_absent(prediction.best())
        tokens, object_score, logits = shown.mask_tokens, shown.object_score, shown.logits
        assert object_score is not None
        pointing_score = object_score
        if masks is not None:
            read = self._read_masks(features, object_image, masks)
            assert read.object_score is not None
            tokens, pointing_score = read.mask_tokens, torch.minimum(object_score, read.object_score)
            logits = logits if rules.binarize_prompted else _given_logits(masks)
        assert tokens is not None
        side = self.preprocessing.image_size
        logits = resize_logits(logits.to(torch.promote_types(logits.dtype, torch.float32)), (side, side))
        binary = is_prompted and rules.binarize_prompted
        inside = (logits > 0).to(logits.dtype) if binary else logits.sigmoid()
        pointers = self.point(tokens[:, 0], pointing_score)
        memories = self.memorize(features, object_image, frame, inside, object_score, pointers, rules.memory_dtype)
        return bank.add(memories, conditioning)

    def _read_masks(
        self, features: ImageFeatures, object_image: Int[Tensor, "P"], masks: Bool[Tensor, "P S S"]
    ) -> MaskPrediction:
        """Return what the decoder makes of masks that are given: the tokens point to their objects."""
        prompts = _no_points(object_image, features.embedding)
        dense = self.mask_downsample(masks[:, None].to(features.embedding.dtype))
        return self._decode(features, None, replace(prompts, masks=dense), object_image, False, False)

    def _decode(
        self,
        features: ImageFeatures,
        recalled: Float[Tensor, "P C h w"] | None,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
        dynamic_multimask: bool,
    ) -> MaskPrediction:
        encoder = self.parts.prompt_encoder
        embedded = encoder(prompts, fill_empty=True)
        if recalled is not None:  # each object has an embedding of its own, as it has where there are mask prompts
            embedded = embedded._replace(dense=embedded.dense + recalled, has_own_dense=True)
            features = replace(features, embedding=torch.zeros_like(features.embedding))
        position = encoder.dense_position()
        return self.sam_mask_decoder(features, position, embedded, object_image, multimask, dynamic_multimask)


def _no_points(object_image: Int[Tensor, "P"], like: Tensor) -> Prompts:
    """Return prompts that say nothing, with one slot."""
    labels = torch.full_like(object_image, PointLabel.EMPTY)[:, None]
    return Prompts(like.new_zeros(len(labels), 1, 2), labels)


def _given_logits(masks: Bool[Tensor, "P S S"]) -> Float[Tensor, "P 1 S S"]:
    return torch.where(masks[:, None], GIVEN_LOGIT, -GIVEN_LOGIT)


def empty_where_absent(prediction: MaskPrediction) -> MaskPrediction:
    """Return the masks as they are shown and remembered: empty where the object score says that there is no object."""
    assert prediction.object_score is not None
    is_present = (prediction.object_score > 0)[:, None, None, None]
    return replace(prediction, logits=torch.where(is_present, prediction.logits, ABSENT_LOGIT))
