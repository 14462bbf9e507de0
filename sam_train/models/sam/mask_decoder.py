"""SAM's mask decoder: from an image embedding and prompts to masks and how good they are."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sam_train.models.layers import MLP, LayerNorm2d
from sam_train.models.prompt_encoder import PromptEmbeddings
from sam_train.models.sam.held_graphs import HeldGraphs
from sam_train.models.two_way_transformer import TwoWayTransformer
from sam_train.structures import ImageFeatures, MaskPrediction

# Objects are decoded in parts whose image tokens have about this many numbers: enough to fill a CPU's caches, or to
# keep a GPU busy.
PART_SIZE = {"cpu": 4 << 20, "cuda": 16 << 20}


class MaskDecoder(nn.Module):
    """SAM's mask decoder (Kirillov et al. 2023, section 3 and appendix A) over packed objects.

    Mask token 0 predicts the single mask of an unambiguous prompt, tokens 1 to 3 predict whole, part and subpart.

    Attributes:
        keep_bytes: Memory in bytes that activations may take until their backward pass, over all calls that wait for
            it. Objects beyond it are decoded again in the backward pass: the same gradients with less memory, in about
            half as much time again. The default is enough for 32 objects of the released models.
    """

    num_mask_tokens = 4
    keep_bytes: int = 3 << 30

    def __init__(self, dim: int, transformer: TwoWayTransformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, dim // 8, 3) for _ in range(self.num_mask_tokens))
        self.iou_prediction_head = MLP(dim, 256, self.num_mask_tokens, 3)
        self._held = HeldGraphs()

    def forward(
        self,
        features: ImageFeatures,
        position: Float[Tensor, "1 C h w"],
        prompts: PromptEmbeddings,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
    ) -> MaskPrediction:
        """Return three candidates per object or, with ``multimask`` off, the single mask.

        If ``multimask`` is given per object, objects it is off for have their single mask three times, which makes no
        difference to a loss that takes the best mask and averages over the IoU estimates.
        """
        return self.predict_tokens(features, position, prompts, object_image, multimask)

    def predict_tokens(
        self,
        features: ImageFeatures,
        position: Float[Tensor, "1 C h w"],
        prompts: PromptEmbeddings,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"] | None = None,
    ) -> MaskPrediction:
        """Return the masks that ``multimask`` asks for as in :meth:`forward`, or without it those of all four tokens.

        Objects do not see each other, so they are decoded in parts, each while its image tokens are in the cache.
        """
        strides = (2, 4)[: len(features.high_res)]
        finer = [_by_cell(level, stride) for level, stride in zip(reversed(features.high_res), strides, strict=True)]
        embedding = _as_tokens(features.embedding)
        if not prompts.has_own_dense:
            embedding = embedding + _as_tokens(prompts.dense)
        predicted = []
        for objects, images in _parts(object_image, embedding):
            part = prompts.objects(objects)
            part_multimask = multimask[objects] if isinstance(multimask, Tensor) else multimask
            inputs = embedding, finer, _as_tokens(position), images, part, part_multimask
            if torch.compiler.is_compiling() or not torch.is_grad_enabled():
                predicted.append(self._predict_part(*inputs))
            elif self._held.num_bytes + (num_bytes := self._graph_bytes(embedding, part)) > self.keep_bytes:
                predicted.append(checkpoint(self._predict_part, *inputs, use_reentrant=False, preserve_rng_state=False))
            else:
                predicted.append(self._predict_part(*inputs))
                self._held.add(predicted[-1].logits, num_bytes)
        return predicted[0] if len(predicted) == 1 else _join(predicted)

    def _graph_bytes(self, embedding: Float[Tensor, "B L C"], prompts: PromptEmbeddings) -> int:
        """Estimate the bytes of activations that the backward pass of these objects needs, to about a fifth.

        Counted from what autograd saves per image token: six vectors of all channels in each two-way block and six in
        upscaling, and in each block three attention weights for each head and prompt token.
        """
        _, length, channels = embedding.shape
        num_objects, num_tokens = prompts.tokens.shape[0], prompts.tokens.shape[1] + len(self._output_tokens())
        depth, num_heads = len(self.transformer.layers), self.transformer.num_heads
        numbers = (6 * depth + 6) * channels + 3 * depth * num_heads * num_tokens
        return num_objects * length * numbers * embedding.element_size()

    def _predict_part(
        self,
        embedding: Float[Tensor, "B L C"],
        finer: list[Tensor],
        position: Float[Tensor, "1 L C"],
        images: slice | Int[Tensor, "P"],
        prompts: PromptEmbeddings,
        multimask: bool | Bool[Tensor, "P"] | None,
    ) -> MaskPrediction:
        image, *finer = (_of_images(level, images) for level in (embedding, *finer))
        if prompts.has_own_dense:
            image = image + _as_tokens(prompts.dense)
        output_tokens = self._output_tokens()
        # Not len() of the prompts, which would fix their number in an export.
        num_outputs, num_objects = len(output_tokens), prompts.tokens.shape[0]
        tokens, image = self.transformer(
            torch.cat([output_tokens.expand(num_objects, -1, -1).to(prompts.tokens.dtype), prompts.tokens], dim=1),
            image,
            position,
            torch.cat([prompts.attend.new_ones(num_objects, num_outputs), prompts.attend], dim=1),
            None if prompts.similarity is None else prompts.similarity.flatten(1),
            prompts.target,
        )
        filters, prediction = self._read_tokens(tokens)
        assert prediction.mask_tokens is not None
        logits = self._draw_masks(image, choose(filters, multimask), *finer)
        return replace(
            prediction,
            logits=_from_cells(logits),
            iou=choose(prediction.iou, multimask),
            mask_tokens=choose(prediction.mask_tokens, multimask),
        )

    def _output_tokens(self) -> Float[Tensor, "t C"]:
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def _read_tokens(self, tokens: Float[Tensor, "P T C"]) -> tuple[Float[Tensor, "P M c"], MaskPrediction]:
        """Return each mask token's filter over the upscaled image, and a prediction that still lacks its masks."""
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        filters = [mlp(mask_tokens[:, index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)]
        iou = self.iou_prediction_head(tokens[:, 0])
        return torch.stack(filters, dim=1), MaskPrediction(iou[:, :, None, None], iou, mask_tokens=mask_tokens)

    def _draw_masks(
        self, image: Float[Tensor, "P L C"], filters: Float[Tensor, "P M c"], *finer: Tensor
    ) -> Float[Tensor, "P n M"]:
        """Return masks in which the 4 x 4 pixels of each image token are side by side; see :func:`_by_cell`.

        A transposed convolution whose kernel is as wide as its stride is a linear map of each position on its own. So
        only the masks, not the features, need to be put in reading order.
        """
        grow1, norm, activate1, grow2, activate2 = self.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        x = _grow(image, grow1)
        if finer:
            x = x + finer[0]
        x = activate1(norm.normalize(x))
        x = _grow(x, grow2)
        if finer:
            x = x + finer[1]
        return activate2(x) @ filters.mT


def _grow(x: Float[Tensor, "P n C"], convolution: nn.Module) -> Float[Tensor, "P n4 D"]:
    """Apply a 2 x 2 transposed convolution of stride 2 and leave the four pixels of a position side by side."""
    weight, bias = convolution.weight, convolution.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    grown = F.linear(x, weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4))
    return grown.unflatten(2, (4, -1)).flatten(1, 2)


def _of_images(level: Float[Tensor, "B L C"], images: slice | Int[Tensor, "P"]) -> Float[Tensor, "P L C"]:
    """Return each object's image tokens; their gradients are summed in the objects' order.

    Not ``level[images]``, whose backward pass on a CPU adds in whatever order its threads arrive.
    """
    return level[images] if isinstance(images, slice) else level.index_select(0, images)


def _as_tokens(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B L C"]:
    """Return a map's positions in reading order, the channels of each side by side in memory."""
    return x.flatten(2).transpose(1, 2).contiguous()


def _by_cell(level: Float[Tensor, "B c H W"], stride: int) -> Float[Tensor, "B n c"]:
    """Return a finer feature map in the order of :meth:`MaskDecoder._draw_masks`: cell by cell, halving by halving.

    Args:
        level: Features.
        stride: Number of positions along the side of a cell, 2 or 4.
    """
    halves = [2] * (stride // 2)
    x = level.permute(0, 2, 3, 1).unflatten(2, (-1, *halves)).unflatten(1, (-1, *halves))
    if stride == 2:  # row, i, column, j
        return x.transpose(2, 3).flatten(1, 4)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 6)  # row, i, k, column, j, l


def _from_cells(logits: Float[Tensor, "P n M"]) -> Float[Tensor, "P M H W"]:
    """Return masks in reading order from the order of :meth:`MaskDecoder._draw_masks`."""
    width = math.isqrt(logits.shape[1] // 16)
    x = logits.unflatten(1, (width, width, 2, 2, 2, 2))
    return x.permute(0, 7, 1, 3, 5, 2, 4, 6).flatten(5, 7).flatten(2, 4)


def _parts(object_image: Int[Tensor, "P"], embedding: Float[Tensor, "B L C"]) -> list[tuple[slice, slice | Tensor]]:
    """Return the objects that are decoded together, and their images: one for all of them, or one for each.

    Objects of one image share its tokens. On a CPU, parts end where the image changes, unless all objects fit into one
    part anyway; on other devices reading the changes would mean waiting for the device.
    """
    num_objects, num_images = object_image.shape[0], embedding.shape[0]
    if torch.compiler.is_compiling():
        return [(slice(None), object_image)]
    most = max(PART_SIZE.get(embedding.device.type, PART_SIZE["cuda"]) // embedding[0].numel(), 1)
    if num_images == 1 or num_objects <= most or embedding.device.type != "cpu":
        parts = [slice(start, start + most) for start in range(0, max(num_objects, 1), most)]
        return [(part, slice(0, 1) if num_images == 1 else object_image[part]) for part in parts]
    found, counts = object_image.unique_consecutive(return_counts=True)
    parts, start = [], 0
    for image, count in zip(found.tolist(), counts.tolist(), strict=True):
        for begin in range(start, start + count, most):
            parts.append((slice(begin, min(begin + most, start + count)), slice(image, image + 1)))
        start += count
    return parts


def _join(parts: list[MaskPrediction]) -> MaskPrediction:
    scores = [part.object_score for part in parts if part.object_score is not None]
    mask_tokens = [part.mask_tokens for part in parts if part.mask_tokens is not None]
    return MaskPrediction(
        logits=torch.cat([part.logits for part in parts]),
        iou=torch.cat([part.iou for part in parts]),
        object_score=torch.cat(scores) if scores else None,
        mask_tokens=torch.cat(mask_tokens),
    )


def choose(of_tokens: Float[Tensor, "P 4 *c"], multimask: bool | Bool[Tensor, "P"] | None) -> Float[Tensor, "P n *c"]:
    """Select the candidates' values from those of the four mask tokens; see :meth:`MaskDecoder.forward`."""
    if multimask is None:
        return of_tokens
    single, multiple = of_tokens[:, :1], of_tokens[:, 1:]
    if isinstance(multimask, bool):
        return multiple if multimask else single
    return torch.where(multimask.view(-1, *[1] * (of_tokens.ndim - 1)), multiple, single)
