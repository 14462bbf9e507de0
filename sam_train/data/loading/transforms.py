"""From an image of any size to the model's input, with and without augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from sam_train.data.loading.given_prompts import resize_prompts
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Sample


def resize_image(image: UInt8[Tensor, "3 h w"], preprocessing: Preprocessing) -> Tensor:
    """Return the image at the size of the un-padded part of the input, antialiased bilinear.

    Its pixels are exactly the official ones: 8 bit for ``longest_side``, floating point of 0..255 for ``square``.
    """
    height, width = preprocessing.resized_size((image.shape[-2], image.shape[-1]))
    if preprocessing.resize == "square":
        return TF.resize(image.float(), [height, width], antialias=True)
    # Pillow, as in SAM: torchvision's 8-bit kernel rounds one pixel in 10^5 the other way, 7e-4 in the embedding.
    resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def resize_sample(sample: Sample, preprocessing: Preprocessing) -> Sample:
    """Return the sample at the size of the un-padded part of the input.

    Its image is resized as by the official predictors, but has 8 bits: up to half a gray level off for ``square``.
    """
    height, width = preprocessing.resized_size(sample.size)
    if len(sample.image):
        image = resize_image(sample.image, preprocessing)
        if image.dtype != torch.uint8:  # batches travel in 8 bit
            image = image.round().clamp(0, 255).to(torch.uint8)
    else:
        image = sample.image.new_empty(0, height, width)
    return replace(
        sample,
        image=image,
        labels=resize_labels(sample.labels, (height, width)),
        ignore=None if sample.ignore is None else resize_labels(sample.ignore[None], (height, width))[0],
        prompts=sample.prompts and resize_prompts(sample.prompts, preprocessing, sample.size),
    )


def resize_labels(labels: Shaped[Tensor, "L H W"], size: tuple[int, int]) -> Shaped[Tensor, "L h w"]:
    """Return the value at the middle of each new pixel (nearest-exact); no value passes through a float."""
    rows, columns = (
        ((torch.arange(new) + 0.5) * (old / new)).long().clamp(max=old - 1)
        for old, new in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows][:, :, columns]
