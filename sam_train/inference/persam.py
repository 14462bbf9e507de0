"""PerSAM (Zhang et al. 2023): finding an object in other images from one example of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torchvision.ops import masks_to_boxes

from sam_train.data.loading.transforms import resize_image
from sam_train.errors import InputError
from sam_train.models.promptable import PromptableModel
from sam_train.models.sam.sam import Sam
from sam_train.preprocessing import valid_region
from sam_train.structures import ImageFeatures, MaskPrediction, PointLabel, Prompts


class Found(NamedTuple):
    """Where an object was found.

    Attributes:
        mask: The object in the image.
        iou: The model's own estimate of how good the mask is.
        similarity: Cosine of each cell's features and the example's, over the model's input; -1 in its padding.
    """

    mask: Bool[Tensor, "h w"]
    iou: float
    similarity: Float[Tensor, "g g"]


@torch.no_grad()
def find_alike(
    model: PromptableModel, example: UInt8[Tensor, "3 H W"], mask: Bool[Tensor, "H W"], image: UInt8[Tensor, "3 h w"]
) -> Found:
    """Find the object of an example in another image, without training.

    The example's features say where the object is likely and guide the decoder's attention to it; two more decodes
    refine the first mask ("Personalize Segment Anything Model with One Shot", section 3.2).

    Args:
        model: A SAM, in evaluation mode.
        example: An image with the object.
        mask: The object in it.
        image: Another image, of any size.

    Raises:
        InputError: If the model is not a SAM, or the mask is empty or of another size than its image.
    """
    if not isinstance(model, Sam):
        raise InputError(f"PerSAM guides the decoder of SAM; {type(model).__name__} is none: use a SAM preset")
    if mask.shape != example.shape[1:] or not mask.any():
        raise InputError(
            f"PerSAM: a mask of {tuple(mask.shape)} with {int(mask.sum())} pixels for an example of "
            f"{tuple(example.shape[1:])}; it takes one of the same size that is not empty"
        )
    target = _target_embedding(model, example, mask)
    features, is_valid = _encode(model, image)
    similarity = F.cosine_similarity(features.embedding[0], target[:, None, None], dim=0).masked_fill(~is_valid, -1)
    prompts = _location_prior(similarity, is_valid, model.config.encoder.stride)
    first = model.decode(
        features,
        prompts,
        torch.tensor([0], device=target.device),
        multimask=False,
        attention_similarity=_guidance(similarity, is_valid)[None],
        target_embedding=target[None],
    )
    best = _refine(model, features, prompts, first)
    logits = model.preprocessing.restore_logits(best.logits.float(), (image.shape[1], image.shape[2]))
    return Found(logits[0, 0] > 0, best.iou.item(), similarity)


def _encode(model: Sam, image: UInt8[Tensor, "3 h w"]) -> tuple[ImageFeatures, Bool[Tensor, "g g"]]:
    """Return an image's features and which of their cells are not padding."""
    weight, side = model.mask_decoder.iou_token.weight, model.preprocessing.image_size
    resized = resize_image(image.cpu(), model.preprocessing)
    size = torch.tensor([resized.shape[1:]])
    padded = F.pad(resized, (0, side - resized.shape[2], 0, side - resized.shape[1]))
    inputs = model.preprocessing.normalize(padded[None], size).to(weight)
    return model.encode_image(inputs), valid_region(size, side, model.config.encoder.stride)[0].to(weight.device)


def _target_embedding(model: Sam, example: UInt8[Tensor, "3 H W"], mask: Bool[Tensor, "H W"]) -> Float[Tensor, "C"]:
    """Return the mean of the example's features, each cell counted by how much of it the object covers."""
    embedding, preprocessing = _encode(model, example)[0].embedding[0], model.preprocessing
    height, width = preprocessing.resized_size((mask.shape[0], mask.shape[1]))
    resized = F.interpolate(mask[None, None].to(embedding), (height, width), mode="area")
    padded = F.pad(resized, (0, preprocessing.image_size - width, 0, preprocessing.image_size - height))
    covered = F.avg_pool2d(padded[0], model.config.encoder.stride)
    return (embedding * covered).sum((1, 2)) / covered.sum()


def _location_prior(similarity: Float[Tensor, "g g"], is_valid: Bool[Tensor, "g g"], stride: int) -> Prompts:
    """Return a click on the cell that looks most like the object and a background click on the one that looks least."""
    least = similarity.masked_fill(~is_valid, torch.inf).argmin()
    cells = torch.stack([similarity.argmax(), least])
    width = similarity.shape[1]
    points = torch.stack([cells % width, cells // width], dim=1) * stride + (stride - 1) / 2  # the middle pixel
    labels = torch.tensor([[PointLabel.OBJECT, PointLabel.BACKGROUND]], device=points.device)
    return Prompts(points[None].to(similarity), labels)


def _guidance(similarity: Float[Tensor, "g g"], is_valid: Bool[Tensor, "g g"]) -> Float[Tensor, "g g"]:
    """Return what is added to attention scores: the logarithm of a weight from 0 to 1 for each cell.

    The similarity is standardized over the image first, since SAM's features are all alike.
    """
    inside = similarity[is_valid]
    return F.logsigmoid((similarity - inside.mean()) / inside.std().clamp(min=1e-6))


def _refine(model: Sam, features: ImageFeatures, prompts: Prompts, first: MaskPrediction) -> MaskPrediction:
    """Decode twice more: with the first mask beside the clicks, then with the box around the second mask, too."""
    image = torch.tensor([0], device=first.iou.device)
    again = Prompts(prompts.points, prompts.labels, masks=first.logits)
    second = model.decode(features, again, image, multimask=True).best()
    if not (second.logits > 0).any():
        return second
    cell = model.preprocessing.image_size / second.logits.shape[-1]
    box = masks_to_boxes(second.logits[:, 0] > 0).to(prompts.points) + prompts.points.new_tensor([0, 0, 1, 1])
    boxed = Prompts.from_boxes(box * cell).with_points(prompts.points, prompts.labels)
    last = Prompts(boxed.points, boxed.labels, masks=second.logits)
    return model.decode(features, last, image, multimask=True).best()
