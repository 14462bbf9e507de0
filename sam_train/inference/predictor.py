"""The one way to run a model: images in, prompts in, masks at the images' own size out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from sam_train.data.sources.image_files import PLAIN
from sam_train.data.sources.tones import Tones
from sam_train.errors import InputError
from sam_train.inference.images import EncodedImages, ImageLike, encode_pixels, read_pixels
from sam_train.inference.object_prompts import Numbers, image_of_objects, object_prompts, pack
from sam_train.inference.regions import Cleaning
from sam_train.inference.restoring import full_masks
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import is_ambiguous
from sam_train.structures import ImageFeatures, MaskPrediction, Prompts
from sam_train.tensors import Tensors


@dataclass(frozen=True)
class Prediction(Tensors):
    """What was found of an image's objects.

    Attributes:
        masks: Mask candidates at the image's size.
        iou: The model's own estimate of each candidate's intersection over union with the truth.
        logits: Of the candidates at the decoder's resolution; one candidate of each object is a mask prompt of the next
            prediction.
        object_score: SAM 2's logit of the object being in the image at all; None for SAM.
    """

    masks: Bool[Tensor, "P M H W"]
    iou: Float[Tensor, "P M"]
    logits: Float[Tensor, "P M h w"]
    object_score: Float[Tensor, "P"] | None = None

    def best(self) -> Prediction:
        """Return each object's candidate with the highest estimated IoU alone, as M = 1."""
        chosen = self.iou.argmax(dim=1)
        rows = torch.arange(len(chosen), device=chosen.device)
        masks, iou, logits = (values[rows, chosen][:, None] for values in (self.masks, self.iou, self.logits))
        return Prediction(masks, iou, logits, self.object_score)


class Predictor:
    """Finds the objects that it is prompted with, in images of any size.

    ``sam_train.runs.opening.open_model`` returns the model of a run, a checkpoint or a preset.

    Args:
        model: Any promptable model.
        cleaning: How masks are tidied.
        tones: How stored numbers of images become 8 bits, as in the model's training.

    Attributes:
        images: Those of :meth:`set_image` or :meth:`set_images`; keep them and set them again to come back to them.
        num_decoded: Number of objects that the decoder was asked for so far.
    """

    def __init__(self, model: PromptableModel, cleaning: Cleaning | None = None, tones: Tones = PLAIN) -> None:
        self.model = model.eval()
        self.tones = tones
        self.cleaning = cleaning or Cleaning()
        self.images: EncodedImages | None = None
        self.num_decoded = 0

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def read(self, image: ImageLike) -> UInt8[Tensor, "3 h w"]:
        """Return an image's pixels as the model is shown them.

        Raises:
            InputError: If it is no image.
        """
        return read_pixels(image, self.tones)

    def encode(self, images: Sequence[ImageLike]) -> EncodedImages:
        """Encode images of any sizes together.

        Raises:
            InputError: If one is no image.
        """
        return encode_pixels(self.model, [self.read(image) for image in images])

    def set_image(self, image: ImageLike) -> EncodedImages:
        """Encode an image and keep it for :meth:`predict`.

        Raises:
            InputError: If it is no image.
        """
        return self.set_images([image])

    def set_images(self, images: Sequence[ImageLike]) -> EncodedImages:
        """Encode images together and keep them for :meth:`predict_batch`.

        Raises:
            InputError: If one is no image.
        """
        self.images = self.encode(images)
        return self.images

    def predict(
        self,
        points: Numbers | None = None,
        labels: Numbers | None = None,
        boxes: Numbers | None = None,
        masks: Numbers | None = None,
        multimask: bool | None = None,
        image: EncodedImages | None = None,
    ) -> Prediction:
        """Find objects in one image.

        Args:
            points: x, y in pixels of the image: (N, 2) of one object, (P, N, 2) of several, or a list of P arrays of
                different lengths.
            labels: Of each point 1 on the object, 0 beside it, -1 no point; by default all are on the object.
            boxes: Of each object x0, y0, x1, y1 in pixels of the image: (4,) or (P, 4).
            masks: Of each object the logits of an earlier prediction, which this one refines: (P, 1, h, w).
            multimask: Return three candidates of each object, or one. By default one: of the three that a single
                click gets the best by the model's own estimate.
            image: What :meth:`encode` or :meth:`set_image` returned; by default of the image set last.

        Raises:
            InputError: If there is no image or prompt, or a prompt does not fit the image.
        """
        prompts = {"points": points, "labels": labels, "boxes": boxes, "masks": masks}
        return self.predict_batch([prompts], multimask, image)[0]

    @torch.no_grad()
    def predict_batch(
        self,
        prompts: Sequence[Mapping[str, Numbers | None]],
        multimask: bool | None = None,
        images: EncodedImages | None = None,
    ) -> list[Prediction]:
        """Find any number of objects in each of several images, all in one call of the decoder.

        Args:
            prompts: Of each image ``points``, ``labels``, ``boxes`` or ``masks`` as in :meth:`predict`.
            multimask: As in :meth:`predict`.
            images: What :meth:`encode` or :meth:`set_images` returned; by default those set last.

        Raises:
            InputError: If there are no images, or a prompt does not fit its image.
        """
        images = self._given(images)
        if len(prompts) != len(images):
            raise InputError(f"prompts of {len(prompts)} images for {len(images)}; give a dictionary for each image")
        packed = [self.pack(some, size) for some, size in zip(prompts, images.sizes, strict=True)]
        counts = [len(some.points) for some in packed]
        found = self.decode(images, pack(packed, self.mask_size), image_of_objects(counts), multimask)
        parts = torch.arange(sum(counts)).split(counts)
        return [self._prediction(_of(found, part), size) for part, size in zip(parts, images.sizes, strict=True)]

    def pack(self, prompts: Mapping[str, Any], size: tuple[int, int]) -> Prompts:
        """Return an image's prompts, as :meth:`predict` takes them, as the model's.

        Raises:
            InputError: If they do not fit the image.
        """
        return object_prompts(**prompts, size=size, preprocessing=self.model.preprocessing, mask_size=self.mask_size)

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of logits and of mask prompts."""
        return self.model.parts.prompt_encoder.mask_size

    def decode(
        self, images: EncodedImages, prompts: Prompts, object_image: Tensor, multimask: bool | None
    ) -> MaskPrediction:
        """Return what the decoder says of the objects, with logits as the official predictor returns them.

        Args:
            images: Of the objects.
            prompts: In pixels of the model's input.
            object_image: Each object's image.
            multimask: As in :meth:`predict`.
        """
        if not len(prompts.points):
            none = next(self.model.parameters()).new_zeros(0, 3 if multimask else 1)
            return MaskPrediction(none.new_zeros(*none.shape, *self.mask_size), none)
        prompts = prompts.to(self.device)
        chosen = is_ambiguous(prompts) if multimask is None else multimask
        features = images.features.to(self.device)
        found = self.decode_features(features, prompts, object_image.to(self.device), chosen)
        return found.best() if multimask is None else found

    def decode_features(
        self, features: ImageFeatures, prompts: Prompts, object_image: Tensor, multimask: bool | Bool[Tensor, "P"]
    ) -> MaskPrediction:
        """Return all candidates of objects that :meth:`decode` chooses from; everything on the model's device.

        Args:
            features: Of the objects' images.
            prompts: In pixels of the model's input, of one object at least.
            object_image: Each object's image.
            multimask: Three candidates or one, of all objects or of each.
        """
        self.num_decoded += len(prompts.points)
        points = prompts.points.to(next(self.model.parameters()).dtype)
        if isinstance(multimask, Tensor) and (bool(multimask.all()) or not multimask.any()):
            multimask = bool(multimask.any())  # one kind for all is computed once, not three times
        return self.model.predict(features, replace(prompts, points=points), object_image, multimask)

    def _given(self, images: EncodedImages | None) -> EncodedImages:
        images = images or self.images
        if images is None:
            raise InputError("no image: call set_image first, or give what encode returned")
        return images

    def _prediction(self, found: MaskPrediction, size: tuple[int, int]) -> Prediction:
        masks = full_masks(found.logits, self.model.preprocessing, size, self.cleaning)
        limit = self.model.logit_limit
        return Prediction(masks, found.iou, found.logits.clamp(-limit, limit), found.object_score)


def _of(found: MaskPrediction, objects: Tensor) -> MaskPrediction:
    score = found.object_score
    return MaskPrediction(found.logits[objects], found.iou[objects], None if score is None else score[objects])
