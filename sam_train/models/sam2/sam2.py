"""SAM 2 and 2.1 (Ravi et al. 2024): the two steps every image model offers, and one that goes through a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sam_train.models.layers import MLP
from sam_train.models.prompt_encoder import PromptEncoder
from sam_train.models.promptable import Parts
from sam_train.models.sam2.mask_decoder import Sam2MaskDecoder
from sam_train.models.sam2.memory import Version
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.models.staged_encoder import EncoderConfig
from sam_train.models.two_way_transformer import TwoWayTransformer
from sam_train.models.unused_weights import Shapes
from sam_train.preprocessing import Preprocessing
from sam_train.structures import ImageFeatures, MaskPrediction, Prompts


@dataclass(frozen=True)
class Sam2Config:
    """Sizes of a SAM 2.

    Attributes:
        encoder: Sizes of the image encoder, and with them which encoder it is.
        preprocessing: How images become the model's input, with the input's side.
        version: 2.1 has weights for occluded objects and for the age of object pointers that 2.0 lacks; on images the
            two are the same function. None for a model that no video has trained: it has no memory.
        dim: Channels of the image embedding and the decoder.
        decoder_depth: Two-way blocks.
        decoder_heads: Attention heads of the decoder.
        decoder_mlp_dim: Hidden channels of the decoder's MLPs.
    """

    encoder: EncoderConfig
    preprocessing: Preprocessing
    version: Version | None
    dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048

    def build(self) -> Sam2:
        """Return the model with fresh weights."""
        return Sam2(self)


class Sam2(TrackingModel):
    """SAM 2 over packed objects. Parameter names are the official checkpoints' own."""

    logit_limit = 32.0  # sam2/sam2_image_predictor.py

    def __init__(self, config: Sam2Config) -> None:
        super().__init__()
        self.config = config
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.image_encoder = config.encoder.build(config.dim)
        self.sam_prompt_encoder = PromptEncoder(
            config.dim, config.preprocessing.image_size, config.encoder.stride, pad_boxes=True
        )
        mlp = partial(MLP, config.dim, config.decoder_mlp_dim, config.dim, num_layers=2)
        transformer = TwoWayTransformer(config.decoder_depth, config.dim, config.decoder_heads, mlp)
        self.sam_mask_decoder = Sam2MaskDecoder(config.dim, transformer)
        if config.version is not None:
            self.add_memory(config.dim, config.version)
        nn.init.trunc_normal_(self.no_mem_embed, std=0.02)

    @property
    def parts(self) -> Parts:
        """The three modules that a promptable model is made of."""
        return Parts(self.image_encoder, self.sam_prompt_encoder, self.sam_mask_decoder)

    def undecayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the image encoder's tables, the no-memory embedding and the memory's embeddings."""
        yield from super().undecayed_parameters()
        yield self.no_mem_embed
        yield from (parameter for name, parameter in self.named_parameters() if "." not in name)

    def encoding_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the image encoder's parameters and those of the two decoder layers that :meth:`as_features` uses."""
        decoder = self.sam_mask_decoder
        for part in (self.image_encoder, decoder.conv_s0, decoder.conv_s1):
            yield from part.parameters()

    @property
    def unused_shapes(self) -> Shapes:
        """Names and shapes of the memory's weights, where there is a memory, and of what the encoder does not use."""
        return (*super().unused_shapes, *self.memory_shapes)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the embedding and of what ``conv_s1`` and ``conv_s0`` leave of the finer maps."""
        return (self.config.dim, self.config.dim // 4, self.config.dim // 8)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become this model's input."""
        return self.config.preprocessing

    def as_features(self, encoded: tuple[Float[Tensor, "B C _ _"], ...]) -> ImageFeatures:
        """Return the embedding, before any memory, and the finer maps.

        The finer maps come through the mask decoder's ``conv_s0`` and ``conv_s1``: an eighth and a quarter of the
        channels are all that decoding reads.
        """
        finest, finer, embedding = encoded
        decoder = self.sam_mask_decoder
        return ImageFeatures(embedding, high_res=(decoder.conv_s0(finest), decoder.conv_s1(finer)))

    def without_memory(self, features: ImageFeatures) -> ImageFeatures:
        """Return features of still images as the mask decoder reads them: the learned no-memory embedding is added."""
        return replace(features, embedding=features.embedding + self.no_mem_embed.view(1, -1, 1, 1))

    def decode(
        self,
        features: ImageFeatures,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
        *,
        dynamic_multimask: bool = False,
    ) -> MaskPrediction:
        """Return masks of P objects; object i is on image ``object_image[i]`` of the features.

        An object's masks depend on its own prompts and image alone. The object score is returned beside them and
        changes no logit.

        Args:
            features: Features of B images.
            prompts: Prompts of P objects.
            object_image: Index of each object's image.
            multimask: Return three candidates per object, meant for ambiguous prompts such as one click, instead of
                one; may be given per object (see :meth:`MaskDecoder.forward`).
            dynamic_multimask: Replace a single mask that is unstable by the best of the three, as :meth:`predict` does;
                objects that are asked for three keep them.
        """
        return self.sam_mask_decoder(
            self.without_memory(features),
            self.sam_prompt_encoder.dense_position(),
            self.sam_prompt_encoder(prompts),
            object_image,
            multimask,
            dynamic_multimask,
        )

    def predict(
        self,
        features: ImageFeatures,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
    ) -> MaskPrediction:
        """Return masks as the official predictor does: with ``dynamic_multimask``, which SAM 2 was trained without."""
        return self.decode(features, prompts, object_image, multimask, dynamic_multimask=True)
