"""Embeddings of clicks, boxes and rough masks, as the mask decoder reads them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sam_train.models.layers import LayerNorm2d
from sam_train.models.position_encoding import PositionEmbeddingRandom
from sam_train.structures import PointLabel, Prompts

MASK_CHANNELS = 16  # channels of the mask prompt's convolutions, in every released model


class PromptEmbeddings(NamedTuple):
    """Embedded prompts of P objects.

    Attributes:
        tokens: One per slot: the points in order, then the not-a-point token.
        attend: Which tokens count; nothing may attend to the others.
        dense: Added to the image embedding; one constant for all objects where there are no mask prompts.
        has_own_dense: Whether each object has a dense embedding of its own.
        similarity: PerSAM's attention similarity, in units of attention scores.
        target: PerSAM's target embedding.
    """

    tokens: Float[Tensor, "P T C"]
    attend: Bool[Tensor, "P T"]
    dense: Float[Tensor, "P C h w"] | Float[Tensor, "1 C 1 1"]
    has_own_dense: bool
    similarity: Float[Tensor, "P h w"] | None = None
    target: Float[Tensor, "P C"] | None = None

    def objects(self, part: slice) -> PromptEmbeddings:
        """Return the embeddings of a slice of the objects."""
        return PromptEmbeddings(
            tokens=self.tokens[part],
            attend=self.attend[part],
            dense=self.dense[part] if self.has_own_dense else self.dense,
            has_own_dense=self.has_own_dense,
            similarity=None if self.similarity is None else self.similarity[part],
            target=None if self.target is None else self.target[part],
        )


class PromptEncoder(nn.Module):
    """SAM's prompt encoder (Kirillov et al. 2023, appendix A) over packed objects.

    The official encoders end the points of an object with one learned not-a-point token: SAM only where there is no
    box, SAM 2 always (``pad_boxes``). An object with neither points nor box gets no token at all. Here every object has
    the slot, and ``attend`` says whether it counts, so that objects with any mixture of prompts are decoded together
    with the result each would have alone.
    """

    def __init__(self, dim: int, image_size: int, stride: int, pad_boxes: bool) -> None:
        super().__init__()
        self.image_size = image_size
        self.stride = stride
        self.pad_boxes = pad_boxes
        self.pe_layer = PositionEmbeddingRandom(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))  # PointLabel 0..3
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of a mask prompt, which are also those of the decoder's logits."""
        side = 4 * self.image_size // self.stride
        return side, side

    def dense_position(self) -> Float[Tensor, "1 C h w"]:
        """Return the position encoding of the image embedding's cells."""
        side = self.image_size // self.stride
        return self.pe_layer((side, side))

    def forward(self, prompts: Prompts, fill_empty: bool = False) -> PromptEmbeddings:
        """Embed the prompts of P objects.

        Args:
            prompts: Prompts of P objects.
            fill_empty: An object without any point gets the not-a-point token twice, in a slot and as the end, instead
                of not at all: SAM 2 follows objects through frames without prompts by these two. Needs one slot.

        Raises:
            ValueError: If the mask prompts have another size than :attr:`mask_size`.
        """
        labels = prompts.labels
        is_point = labels != PointLabel.EMPTY.value  # torch.compile compares tensors with numbers, not with an enum
        types = torch.cat([embedding.weight for embedding in self.point_embeddings])  # pyright: ignore[reportCallIssue, reportArgumentType]
        # A click is on a pixel, and its coordinate is the pixel's corner: + 0.5 is the center.
        points = self.pe_layer.encode((prompts.points + 0.5) / self.image_size)
        points = points + F.embedding(labels.clamp(min=0), types)  # its gradient has one order of sums, types[...] not
        padding = self.not_a_point_embed.weight.to(points.dtype)
        points = torch.where(is_point[..., None], points, padding if fill_empty else 0)
        padded = is_point.any(dim=1)
        if fill_empty:
            is_point = torch.cat([is_point[:, :1] | ~padded[:, None], is_point[:, 1:]], dim=1)
            padded = torch.ones_like(padded)
        if not self.pad_boxes:
            padded &= ~(labels >= PointLabel.BOX_TOP_LEFT.value).any(dim=1)
        return PromptEmbeddings(
            tokens=torch.cat([points, padding.expand(labels.shape[0], 1, -1)], dim=1),
            attend=torch.cat([is_point, padded[:, None]], dim=1),
            dense=self._embed_masks(prompts),
            has_own_dense=prompts.masks is not None,
        )

    def _embed_masks(self, prompts: Prompts) -> Tensor:
        no_mask = self.no_mask_embed.weight.view(1, -1, 1, 1)
        if prompts.masks is None:
            return no_mask
        if prompts.masks.shape[-2:] != self.mask_size:
            raise ValueError(f"mask prompts of {tuple(prompts.masks.shape[-2:])}, this model takes {self.mask_size}")
        dense = self.mask_downscaling(prompts.masks.to(no_mask.dtype))
        if prompts.has_mask is None:
            return dense
        return torch.where(prompts.has_mask.view(-1, 1, 1, 1), dense, no_mask.to(dense.dtype))
