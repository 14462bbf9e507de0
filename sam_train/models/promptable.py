"""The two steps that every image model offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sam_train.models.staged_encoder import StagedEncoder
from sam_train.models.unused_weights import Shapes
from sam_train.preprocessing import Preprocessing
from sam_train.structures import EncoderState, ImageFeatures, MaskPrediction, Prompts


class PromptableModel(nn.Module, ABC):
    """A model that finds objects it is pointed at; training, evaluation and prediction know nothing else of it.

    Attributes:
        image_encoder: The part that sees the image, once for all of its objects.
    """

    image_encoder: StagedEncoder

    def encoding_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that :meth:`encode_image` uses; where none of them trains, features can be kept."""
        yield from self.image_encoder.parameters()

    @property
    def unused_shapes(self) -> Shapes:
        """Names and shapes of what the official checkpoints hold beyond what this model computes with."""
        return ()

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How images become this model's input."""

    def encode_image(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Features of images that :meth:`Preprocessing.normalize` made.

        Raises:
            ValueError: If they have another size than the model's input.
        """
        side = self.preprocessing.image_size
        if images.shape[-2:] != (side, side):
            raise ValueError(f"images of {tuple(images.shape[-2:])}, this model takes {(side, side)}")
        return self.as_features(self.image_encoder(images))

    def encode_prefix(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures | EncoderState:
        """As far as nothing trains: features, or the image encoder's state before its first step that does."""
        num_steps = self.num_frozen_steps()
        return self.encode_image(images) if num_steps is None else self.image_encoder.prefix(images, num_steps)

    def encode_rest(self, state: EncoderState) -> ImageFeatures:
        """What :meth:`encode_image` returns, from where :meth:`encode_prefix` left off."""
        return self.as_features(self.image_encoder.rest(state))

    def num_frozen_steps(self) -> int | None:
        """How many steps the image encoder takes before the first that trains; None if nothing trains in encoding."""
        if not any(parameter.requires_grad for parameter in self.encoding_parameters()):
            return None
        trains = [any(parameter.requires_grad for parameter in step.parameters()) for step in self.image_encoder.steps]
        return trains.index(True) if any(trains) else len(trains)

    @abstractmethod
    def as_features(self, encoded: Any) -> ImageFeatures:
        """What the image encoder returned, as decoding reads it."""

    @abstractmethod
    def decode(
        self,
        features: ImageFeatures,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
    ) -> MaskPrediction:
        """Masks for P objects, object i being on image ``object_image[i]`` of the features.

        With ``multimask`` three candidates an object, meant for ambiguous prompts such as one click; without it one. It
        may be said for each object: then those it is off for have their one candidate three times.
        An object's masks depend on its own prompts and image alone.
        """

    def predict(
        self,
        features: ImageFeatures,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
    ) -> MaskPrediction:
        """Masks as the official predictor gives them; :meth:`decode` is what trains. Most models have one rule."""
        return self.decode(features, prompts, object_image, multimask)
