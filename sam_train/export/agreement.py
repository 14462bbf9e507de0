"""What was exported finds in its own runtime what the model finds here, on prompts of objects in an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.transforms import resize_sample
from sam_train.data.world.source import ToyImages
from sam_train.errors import InputError
from sam_train.models import ImageModel
from sam_train.prompts.sampling import interior_points, masks_to_boxes
from sam_train.structures import MaskPrediction, PointLabel, Prompts

MOST_DIFFERENT = 0.05
"""Largest difference of a logit that 32-bit numbers may make: at most 0.013 of a pixel's probability."""

FAULT = "this is a fault of the export, and the files should not be used"

_LEAST_IOU = 0.999
_OBJECTS_COMPARED = 8


@dataclass(frozen=True)
class Agreement:
    """How an exported model does in its own runtime.

    Attributes:
        iou: Mean IoU of its masks with ours.
        difference: The largest difference of a logit.
    """

    iou: float
    difference: float

    def require(self, target: str, remedy: str, least_iou: float = _LEAST_IOU, most: float = MOST_DIFFERENT) -> None:
        """Raise if the masks are not those of the model.

        Args:
            target: What was exported and where it was run, for the message.
            remedy: What to do about it.
            least_iou: What the mean IoU must be.
            most: What the largest difference of a logit may be.

        Raises:
            InputError: If the masks or the logits differ by more.
        """
        if self.iou >= least_iou and self.difference <= most:
            return
        raise InputError(
            f"{target}: the masks have an IoU of {self.iou:.3f} with the model's own (at least {least_iou}), logits "
            f"differ by up to {self.difference:.2g} (at most {most}); {remedy}"
        )


@dataclass(frozen=True)
class Scene:
    """A procedural image and prompts of objects in it.

    Attributes:
        pixels: The model's input before it is normalized, 0 to 255.
        valid_size: Height and width of its part that is not padding, (1, 2).
        original_size: Height and width of the image.
        prompts: Of up to eight objects: once their boxes, once a click inside each.
    """

    pixels: Float[Tensor, "1 3 S S"]
    valid_size: Tensor
    original_size: tuple[int, int]
    prompts: Sequence[Prompts]

    @classmethod
    def of(cls, model: ImageModel) -> Scene:
        """Draw an image as wide as the model's input and three quarters as high, which SAM pads."""
        preprocessing = model.preprocessing
        square = ToyImages("world", "test", 1, preprocessing.image_size).read(0)
        rows = square.size[0] * 3 // 4
        cut = replace(square, image=square.image[:, :rows], labels=square.labels[:, :rows])
        sample = cut.keep(cut.areas().nonzero()[:, 0])
        batch = to_batch(resize_sample(sample, preprocessing), preprocessing, sample.size)
        assert batch.images is not None
        masks = batch.masks[:_OBJECTS_COMPARED]
        clicks = interior_points(masks)[:, None]
        labels = torch.full(clicks.shape[:2], PointLabel.OBJECT.value)
        prompts = (Prompts.from_boxes(masks_to_boxes(masks).float()), Prompts(clicks, labels))
        return cls(batch.images.float(), batch.valid_size, sample.size, prompts)

    def unpadded(self) -> Float[Tensor, "3 h w"]:
        """Return the image as it is scaled to the model's input, 0 to 255."""
        height, width = self.valid_size[0].tolist()
        return self.pixels[0, :, :height, :width]

    def normalized(self, model: ImageModel) -> Float[Tensor, "1 3 S S"]:
        """Return the model's input."""
        return model.preprocessing.normalize(self.pixels, self.valid_size)

    @torch.no_grad()
    def found_by(self, model: ImageModel) -> list[MaskPrediction]:
        """Return the model's three candidates for the objects of each prompt."""
        features = model.encode_image(self.normalized(model))
        return [
            model.predict(features, prompts, torch.zeros(len(prompts.points), dtype=torch.long), multimask=True)
            for prompts in self.prompts
        ]


def agreement_of(found: Sequence[Tensor], expected: Sequence[Tensor]) -> Agreement:
    """Compare logits of the same objects, prompt by prompt."""
    theirs, ours = torch.cat([one.float() for one in found]), torch.cat([*expected])
    assert theirs.shape == ours.shape
    both, either = ((theirs > 0) & (ours > 0)).sum((-1, -2)), ((theirs > 0) | (ours > 0)).sum((-1, -2))
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return Agreement(float(iou.mean()), float((theirs - ours).abs().max()))
