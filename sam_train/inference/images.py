"""Images of any kind and size, as pixels and as features that are computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from sam_train.data.loading.transforms import resize_image
from sam_train.data.sources.image_files import PLAIN, read_image, to_rgb
from sam_train.data.sources.raster import Raster
from sam_train.data.sources.tones import Tones
from sam_train.errors import InputError
from sam_train.models.promptable import PromptableModel
from sam_train.preprocessing import Preprocessing
from sam_train.structures import ImageFeatures

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
"""A file; an image of Pillow; an array (h, w) or (h, w, 1, 3 or 4); or a tensor (h, w) or (1 or 3, h, w)."""

_ARRAYS = "an array (height, width), or (height, width, 3) of 8 bits; or a tensor (3, height, width) of 8 bits"


def read_pixels(image: ImageLike, tones: Tones = PLAIN) -> UInt8[Tensor, "3 h w"]:
    """Return an image as 8-bit red, green and blue.

    Files and Pillow's images are turned upright as their EXIF orientation says, transparency is ignored, and gray
    images of more than 8 bits are stretched as those of training are (:mod:`sam_train.data.sources.image_files`).

    Args:
        image: The image.
        tones: How its numbers become 8 bits. A rule that names bands takes arrays (height, width, bands) of any number
            type and tensors (bands, height, width).

    Raises:
        InputError: If it is no image.
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image).expanduser(), tones=tones)
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        is_deep = upright.mode.startswith(("I", "F"))
        image = np.array(upright if is_deep else upright.convert("RGB"))
    elif isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    if not isinstance(image, np.ndarray):
        raise InputError(f"image: a {type(image).__name__}; expected a path, an image of Pillow, {_ARRAYS}")
    image = np.require(
        image, requirements=["C", "W"]
    )  # a view of Pillow's memory, or turned round from BGR, is neither
    if tones.channels and image.ndim == 3 and image.size and image.dtype.kind in "biuf":
        return to_rgb(Raster(image, "L"), Path("image"), tones).contiguous()
    channels = image.shape[2] if image.ndim == 3 else 1
    is_known = image.ndim in (2, 3) and image.size and (image.dtype == np.uint8 or channels == 1)
    if not is_known or channels not in (1, 3, 4) or image.dtype.kind not in "iuf":
        raise InputError(f"image: {image.dtype} of shape {image.shape}; expected {_ARRAYS}")
    raster = Raster(image, "RGB" if channels > 1 else "L", has_alpha=channels == 4)
    return to_rgb(raster, Path("image"), tones).contiguous()


@dataclass(frozen=True)
class EncodedImages:
    """What a model needs of images to find any number of objects in them: computed once, reused as often as wanted.

    Attributes:
        features: Of the images, in order.
        sizes: Height and width of each image.
    """

    features: ImageFeatures
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.sizes)

    def image(self, index: int) -> EncodedImages:
        """Return one of the images."""
        return EncodedImages(self.features.image(index), (self.sizes[index],))

    def to(self, device: torch.device | str) -> EncodedImages:
        """Return the same on another device, such as the CPU to keep many."""
        return EncodedImages(self.features.to(device), self.sizes)

    @classmethod
    def cat(cls, images: Sequence[EncodedImages]) -> EncodedImages:
        """Return all images together, in order."""
        sizes = tuple(size for some in images for size in some.sizes)
        return cls(ImageFeatures.cat([some.features for some in images]), sizes)


@torch.no_grad()
def encode_pixels(model: PromptableModel, images: Sequence[UInt8[Tensor, "3 _ _"]]) -> EncodedImages:
    """Encode images of any sizes together, prepared as by the official predictors.

    Raises:
        InputError: If there is none.
    """
    if not images:
        raise InputError("no images to encode: give one at least")
    weight = next(model.parameters())
    inputs, valid_size = _inputs(images, model.preprocessing)
    normalized = model.preprocessing.normalize(inputs.to(weight.device), valid_size.to(weight.device))
    sizes = tuple((image.shape[1], image.shape[2]) for image in images)
    return EncodedImages(model.encode_image(normalized.to(weight.dtype)), sizes)


def _inputs(
    images: Sequence[UInt8[Tensor, "3 _ _"]], preprocessing: Preprocessing
) -> tuple[Float[Tensor, "B 3 S S"], Int[Tensor, "B 2"]]:
    """Return images at the size of the model's input, padded, and which part of each is not padding."""
    side = preprocessing.image_size
    resized = [resize_image(image.cpu(), preprocessing).float() for image in images]
    padded = [F.pad(image, (0, side - image.shape[2], 0, side - image.shape[1])) for image in resized]
    return torch.stack(padded), torch.tensor([image.shape[1:] for image in resized])
