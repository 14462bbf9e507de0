"""SAM 2's mask decoder: SAM's with finer features, an object score and a replacement for unstable masks."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sam_train.models.layers import MLP
from sam_train.models.prompt_encoder import PromptEmbeddings
from sam_train.models.sam.mask_decoder import MaskDecoder, choose
from sam_train.models.two_way_transformer import TwoWayTransformer
from sam_train.structures import ImageFeatures, MaskPrediction

# From the released configurations (sam2/build_sam.py): a mask is stable if its IoU with itself stays high when its
# threshold moves from -delta to +delta.
STABILITY_DELTA = 0.05
STABILITY_THRESHOLD = 0.98


class Sam2MaskDecoder(MaskDecoder):
    """SAM 2's mask decoder (Ravi et al. 2024, section 4 and appendix D.1) over packed objects.

    Its first token predicts whether the object is in the image at all; the others are SAM's.
    """

    def __init__(self, dim: int, transformer: TwoWayTransformer) -> None:
        super().__init__(dim, transformer)
        self.obj_score_token = nn.Embedding(1, dim)
        self.conv_s0 = nn.Conv2d(dim, dim // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, kernel_size=1)
        self.pred_obj_score_head = MLP(dim, dim, 1, 3)

    def forward(
        self,
        features: ImageFeatures,
        position: Float[Tensor, "1 C h w"],
        prompts: PromptEmbeddings,
        object_image: Int[Tensor, "P"],
        multimask: bool | Bool[Tensor, "P"],
        dynamic_multimask: bool = False,
    ) -> MaskPrediction:
        """Decode as SAM; with ``dynamic_multimask`` the best of the three replaces a single mask that is unstable."""
        if not dynamic_multimask or multimask is True:
            return super().forward(features, position, prompts, object_image, multimask)
        tokens = self.predict_tokens(features, position, prompts, object_image)
        assert tokens.mask_tokens is not None
        single = prefer_stable(tokens)
        if multimask is False:
            return single
        return replace(
            tokens,
            logits=torch.where(multimask[:, None, None, None], tokens.logits[:, 1:], single.logits),
            iou=torch.where(multimask[:, None], tokens.iou[:, 1:], single.iou),
            mask_tokens=choose(tokens.mask_tokens, multimask),
        )

    def _output_tokens(self) -> Float[Tensor, "t C"]:
        return torch.cat([self.obj_score_token.weight, super()._output_tokens()])

    def _read_tokens(self, tokens: Float[Tensor, "P T C"]) -> tuple[Float[Tensor, "P M c"], MaskPrediction]:
        filters, prediction = super()._read_tokens(tokens[:, 1:])
        object_score = self.pred_obj_score_head(tokens[:, 0])[:, 0]
        return filters, replace(prediction, iou=prediction.iou.sigmoid(), object_score=object_score)


def prefer_stable(tokens: MaskPrediction) -> MaskPrediction:
    """Return one mask per object from those of all four tokens: the single one if stable, else the best of the three.

    The mask token stays that of the single mask, as in the official code: SAM 2 tracks after several clicks, so these
    are the tokens that its object pointers were trained on.
    """
    single, best = tokens.logits[:, :1], MaskPrediction(tokens.logits[:, 1:], tokens.iou[:, 1:]).best()
    stable = stability(single) >= STABILITY_THRESHOLD
    return replace(
        tokens,
        logits=torch.where(stable[..., None, None], single, best.logits),
        iou=torch.where(stable, tokens.iou[:, :1], best.iou),
        mask_tokens=None if tokens.mask_tokens is None else tokens.mask_tokens[:, :1],
    )


def stability(logits: Float[Tensor, "P M h w"]) -> Float[Tensor, "P M"]:
    """Return the IoU of each mask at a stricter and at a looser threshold; 1 where even the looser mask is empty."""
    strict = (logits > STABILITY_DELTA).sum(dim=(-2, -1))
    loose = (logits > -STABILITY_DELTA).sum(dim=(-2, -1))
    return torch.where(loose > 0, strict / loose, 1.0)
