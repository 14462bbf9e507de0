"""The two steps that every image model offers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sam_train.models.prompt_encoder import PromptEncoder
from sam_train.models.sam.mask_decoder import MaskDecoder
from sam_train.models.staged_encoder import StagedEncoder
from sam_train.models.unused_weights import Shapes
from sam_train.preprocessing import Preprocessing
from sam_train.structures import EncoderState, ImageFeatures, MaskPrediction, Prompts


class Parts(NamedTuple):
    """The modules of a promptable model, whatever their names in its state dict."""

    image_encoder: StagedEncoder
    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder


class PromptableModel(nn.Module, ABC):
    """A model that finds the objects it is prompted with; training, evaluation and prediction know nothing else of it.

    Attributes:
        image_encoder: The part that sees the image, once for all of its objects.
        logit_limit: The largest logit, up or down, that the official predictor returns to be a mask prompt again.
    """

    image_encoder: StagedEncoder
    logit_limit: float = math.inf

    @property
    @abstractmethod
    def parts(self) -> Parts:
        """The three modules that a promptable model is made of."""

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How images become this model's input."""

    @property
    @abstractmethod
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the features: of the embedding, then of the finer ones, the coarsest first."""

    @property
    def unused_shapes(self) -> Shapes:
        """Names and shapes of tensors that official checkpoints hold and images do not need."""
        return tuple((f"image_encoder.{name}", shape) for name, shape in self.image_encoder.unused_shapes)

    def encoding_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that :meth:`encode_image` uses; where none of them trains, features can be kept."""
        yield from self.image_encoder.parameters()

    def undecayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters without weight decay beyond those that never have any: vectors and embeddings."""
        yield from self.image_encoder.undecayed_parameters()

    def encode_image(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Return features of images that :meth:`Preprocessing.normalize` made.

        Raises:
            ValueError: If the images have another size than the model's input.
        """
        side = self.preprocessing.image_size
        if images.shape[-2:] != (side, side):
            raise ValueError(f"images of {tuple(images.shape[-2:])}, this model takes {(side, side)}")
        return self.as_features(self.image_encoder(images))

    def encode_prefix(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures | EncoderState:
        """Encode as far as nothing trains: to the features, or to the state before the first step that trains."""
        num_steps = self.num_frozen_steps()
        return self.encode_image(images) if num_steps is None else self.image_encoder.prefix(images, num_steps)

    def encode_rest(self, state: EncoderState) -> ImageFeatures:
        """Return what :meth:`encode_image` returns, from where :meth:`encode_prefix` stopped."""
        return self.as_features(self.image_encoder.rest(state))

    def num_frozen_steps(self) -> int | None:
        """Return the number of encoder steps before the first that trains; None if nothing in encoding trains."""
        if not any(parameter.requires_grad for parameter in self.encoding_parameters()):
            return None
        trains = [any(parameter.requires_grad for parameter in step.parameters()) for step in self.image_encoder.steps]
        return trains.index(True) if any(trains) else len(trains)

    @abstractmethod
    def as_features(self, encoded: Any) -> ImageFeatures:
        """Return the image encoder's output as decoding reads it."""

    @abstractmethod
    def decode(
        self,
        features: ImageFeatures,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
    ) -> MaskPrediction:
        """Return masks of P objects; object i is on image ``object_image[i]`` of the features.

        With ``multimask`` each object gets three candidates, meant for ambiguous prompts such as one click; without it
        one. It may be given per object: objects it is off for have their one candidate three times.
        An object's masks depend on its own prompts and image alone.
        """

    def predict(
        self,
        features: ImageFeatures,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
    ) -> MaskPrediction:
        """Return masks as the official predictor does; most models have no rule beyond :meth:`decode`, which trains."""
        return self.decode(features, prompts, object_image, multimask)
