"""The training loss of Segment Anything, over packed objects and several mask candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sam_train.errors import InputError
from sam_train.preprocessing import downscale_masks, resize_logits
from sam_train.structures import Batch, MaskPrediction


class LossTerms(NamedTuple):
    """Terms of the loss, each summed over the objects of a batch, before its weight."""

    mask: Float[Tensor, ""]
    dice: Float[Tensor, ""]
    iou: Float[Tensor, ""]
    object_score: Float[Tensor, ""]


class Targets(NamedTuple):
    """Truth of a batch's objects at the resolution at which it is compared.

    Attributes:
        masks: True on the object.
        counted: Per object, the pixels that are compared, its own among them; None for all.
    """

    masks: Bool[Tensor, "P h w"]
    counted: Bool[Tensor, "P h w"] | None = None


class _Compared(NamedTuple):
    focal: Float[Tensor, "P M"]
    dice: Float[Tensor, "P M"]
    iou: Float[Tensor, "P M"]


MAX_VALUES = 2**22  # logits of upsampled masks compared at a time: 16 MB in float32, and ten times that in between


@dataclass(frozen=True)
class SamLoss:
    """Focal, dice, IoU estimate and object score, as SAM 2 trains (Ravi et al. 2024, appendix D.2).

    Of several mask candidates only the best one (least weighted focal + dice) learns its mask. Terms are sums over
    objects: divided by the number of objects of the whole optimizer step, they give the same gradient however a batch
    is split over devices and accumulation steps.

    Attributes:
        mask: Weight of the focal loss, its mean over pixels. With ``focal_alpha=-1 focal_gamma=0`` it is cross entropy.
        dice: Weight of the dice loss (+1 in numerator and denominator).
        iou: Weight of the error of the estimated IoU.
        object_score: Weight of the object score's cross entropy, for models that have one.
        focal_alpha: Weight of object pixels against 1 - alpha of background; negative for none.
        focal_gamma: How much less an easy pixel counts (Lin et al. 2017).
        iou_error: Absolute (``l1``) or squared (``l2``) error of the IoU estimate.
        iou_of: Which candidates learn their IoU estimate: ``all``, or only the ``best``.
        object_alpha: As ``focal_alpha``, for the object score.
        object_gamma: As ``focal_gamma``, for the object score.
        resolution: Masks are compared on a grid of this side at least, or the input's if that is smaller: 256 is the
            logits' own side at an input of 1024, and every pixel at one of 256; 1024 is how SAM 2 was trained.
    """

    mask: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    object_score: float = 1.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    iou_error: Literal["l1", "l2"] = "l1"
    iou_of: Literal["all", "best"] = "all"
    object_alpha: float = -1.0
    object_gamma: float = 0.0
    resolution: int = 256

    def __post_init__(self) -> None:
        for name, allowed in {"iou_error": ("l1", "l2"), "iou_of": ("all", "best")}.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"loss.{name}={getattr(self, name)!r}, possible are {', '.join(map(str, allowed))}")
        if self.resolution < 1:
            raise InputError(f"loss.resolution={self.resolution}: the side of a grid, such as 256")

    def total(self, terms: LossTerms) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms."""
        return (
            self.mask * terms.mask
            + self.dice * terms.dice
            + self.iou * terms.iou
            + self.object_score * terms.object_score
        )

    def targets(self, batch: Batch) -> Targets:
        """Return the truth at the resolution at which it is compared; once for all rounds of a step."""
        side = batch.masks.shape[-1]
        scale = next((scale for scale in (1, 2) if side // 4 * scale >= self.resolution), 4)
        masks = downscale_masks(batch.masks, side // 4 * scale)
        if batch.ignore is None:
            return Targets(masks)
        # A cell that is half object and half ignored counts as object.
        return Targets(masks, masks | ~downscale_masks(batch.ignore, masks.shape[-1])[batch.object_image])

    def __call__(self, prediction: MaskPrediction, targets: Targets) -> LossTerms:
        """Return the terms of one round of prompts.

        Args:
            prediction: Of P objects; logits are resized to the targets' resolution.
            targets: From :meth:`targets`. An object without any pixel is absent: only its object score learns or,
                where no score is trained, its mask learns to be empty.
        """
        prediction = prediction.to(torch.promote_types(prediction.logits.dtype, torch.float32))
        if prediction.logits.shape[1] == 1:
            compared = chosen = self._compare(prediction.logits, targets)
            best = torch.zeros_like(compared.iou, dtype=torch.long)
        else:
            with torch.no_grad():  # only the best candidate's mask learns, so only it needs gradients
                compared = self._compare(prediction.logits, targets)
                best = (self.mask * compared.focal + self.dice * compared.dice).argmin(dim=1, keepdim=True)
            chosen = self._compare(prediction.logits.take_along_dim(best[..., None, None], dim=1), targets)
        error = prediction.iou - compared.iou
        iou = error.abs() if self.iou_error == "l1" else error.square()
        is_present = targets.masks.flatten(1).any(dim=1)
        has_score = prediction.object_score is not None and self.object_score > 0
        learns = is_present if has_score else torch.ones_like(is_present)
        iou = iou.mean(dim=1) if self.iou_of == "all" else iou.gather(1, best)[:, 0]
        return LossTerms(
            mask=(chosen.focal[:, 0] * learns).sum(),
            dice=(chosen.dice[:, 0] * learns).sum(),
            iou=(iou * learns).sum(),
            object_score=self._object_score(prediction, is_present),
        )

    def _compare(self, logits: Float[Tensor, "P M h w"], targets: Targets) -> _Compared:
        """Compare masks at the targets' resolution, a few objects at a time if they are many or large."""
        masks, counted = targets
        num_objects = max(MAX_VALUES // (logits.shape[1] * masks.shape[-2] * masks.shape[-1]), 1)
        parts = [
            (some, Targets(masks[at], None if counted is None else counted[at]))
            for start, some in enumerate(logits.split(num_objects))
            for at in [slice(start * num_objects, (start + 1) * num_objects)]
        ]
        if len(parts) == 1:
            return self._compare_part(*parts[0])
        # Each part is computed again for its gradient, so that only one of them is in memory at a time.
        run = partial(checkpoint, self._compare_part, use_reentrant=False, preserve_rng_state=False)
        return _Compared(*(torch.cat(values) for values in zip(*(run(*part) for part in parts), strict=True)))

    def _compare_part(self, logits: Float[Tensor, "P M h w"], targets: Targets) -> _Compared:
        logits = resize_logits(logits, (targets.masks.shape[-2], targets.masks.shape[-1]))
        masks = targets.masks[:, None].expand_as(logits)
        truth = masks.to(logits.dtype)
        counted = None if targets.counted is None else targets.counted[:, None]
        focal = _mean(self._focal(logits, truth), counted)
        dice = _dice(_only(counted, logits.sigmoid()), truth)
        predicted = _only(counted, logits > 0)
        intersection = (predicted & masks).sum(dim=(2, 3))
        union = (predicted | masks).sum(dim=(2, 3))
        return _Compared(focal, dice, intersection / union.clamp(min=1))

    def _focal(self, logits: Float[Tensor, "P M h w"], truth: Float[Tensor, "P M h w"]) -> Float[Tensor, "P M h w"]:
        from torchvision.ops import sigmoid_focal_loss

        if self.focal_gamma == 0 and self.focal_alpha < 0:  # the same value, without powers of one
            return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return sigmoid_focal_loss(logits, truth, self.focal_alpha, self.focal_gamma)

    def _object_score(self, prediction: MaskPrediction, is_present: Bool[Tensor, "P"]) -> Float[Tensor, ""]:
        if prediction.object_score is None:
            return prediction.iou.new_zeros(())
        from torchvision.ops import sigmoid_focal_loss

        score = prediction.object_score
        target = is_present.to(score.dtype)
        return sigmoid_focal_loss(score, target, self.object_alpha, self.object_gamma, reduction="sum")


def _only(counted: Tensor | None, values: Tensor) -> Tensor:
    return values if counted is None else values * counted


def _mean(values: Float[Tensor, "P M h w"], counted: Bool[Tensor, "P 1 h w"] | None) -> Float[Tensor, "P M"]:
    """Return the mean over the pixels that count."""
    if counted is None:
        return values.mean(dim=(2, 3))
    return (values * counted).sum(dim=(2, 3)) / counted.sum(dim=(2, 3)).clamp(min=1)


def _dice(probability: Float[Tensor, "P M h w"], truth: Float[Tensor, "P M h w"]) -> Float[Tensor, "P M"]:
    """Return one minus the Dice coefficient 2TP / (2TP + FP + FN), smoothed by 1 above and below."""
    found = (probability * truth).sum(dim=(2, 3))
    extra, missed = probability.sum(dim=(2, 3)) - found, truth.sum(dim=(2, 3)) - found
    return 1 - (2 * found + 1) / (2 * found + extra + missed + 1)
