"""Segment Anything (Kirillov et al. 2023): the whole model behind the two steps every image model offers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sam_train.models.layers import MLPBlock
from sam_train.models.prompt_encoder import PromptEncoder
from sam_train.models.promptable import Parts, PromptableModel
from sam_train.models.sam.mask_decoder import MaskDecoder
from sam_train.models.staged_encoder import EncoderConfig
from sam_train.models.two_way_transformer import TwoWayTransformer
from sam_train.preprocessing import Preprocessing
from sam_train.structures import ImageFeatures, MaskPrediction, Prompts


@dataclass(frozen=True)
class SamConfig:
    """Sizes of a SAM; MobileSAM and SlimSAM are SAMs with another encoder.

    Attributes:
        encoder: Sizes of the image encoder, and with them which encoder it is.
        preprocessing: How images become the model's input, with the input's side.
        dim: Channels of the image embedding and the decoder.
        decoder_depth: Two-way blocks.
        decoder_heads: Attention heads of the decoder.
        decoder_mlp_dim: Hidden channels of the decoder's MLPs.
    """

    encoder: EncoderConfig
    preprocessing: Preprocessing
    dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048

    def build(self) -> Sam:
        """Return the model with fresh weights."""
        return Sam(self)


class Sam(PromptableModel):
    """SAM over packed objects. Parameter names are the official checkpoints' own."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = config.encoder.build(config.dim)
        self.prompt_encoder = PromptEncoder(
            config.dim, config.preprocessing.image_size, config.encoder.stride, pad_boxes=False
        )
        mlp = partial(MLPBlock, config.dim, config.decoder_mlp_dim, nn.ReLU)
        transformer = TwoWayTransformer(config.decoder_depth, config.dim, config.decoder_heads, mlp)
        self.mask_decoder = MaskDecoder(config.dim, transformer)

    @property
    def parts(self) -> Parts:
        """The three modules that a promptable model is made of."""
        return Parts(self.image_encoder, self.prompt_encoder, self.mask_decoder)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the embedding."""
        return (self.config.dim,)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become this model's input."""
        return self.config.preprocessing

    def as_features(self, encoded: Float[Tensor, "B C h w"]) -> ImageFeatures:
        """Return the embedding; SAM has no finer features."""
        return ImageFeatures(embedding=encoded)

    def decode(
        self,
        features: ImageFeatures,
        prompts: Prompts,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
        *,
        attention_similarity: Float[Tensor, "P h w"] | None = None,
        target_embedding: Float[Tensor, "P C"] | None = None,
    ) -> MaskPrediction:
        """Return masks of P objects; object i is on image ``object_image[i]`` of the features.

        An object's masks depend on its own prompts and image alone.

        Args:
            features: Features of B images.
            prompts: Prompts of P objects.
            object_image: Index of each object's image.
            multimask: Return three candidates per object, meant for ambiguous prompts such as one click, instead of
                one; may be given per object (see :meth:`MaskDecoder.forward`).
            attention_similarity: How much each cell of the image embedding looks like the target, added to the scores
                of tokens that attend to the image (PerSAM, Zhang et al. 2023: target-guided attention).
            target_embedding: The target's own embedding, added to every token (PerSAM: target-semantic prompting).
        """
        embeddings = self.prompt_encoder(prompts)._replace(similarity=attention_similarity, target=target_embedding)
        position = self.prompt_encoder.dense_position()
        return self.mask_decoder(features, position, embeddings, object_image, multimask)
