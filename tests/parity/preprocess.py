"""Model inputs as the official predictors prepare them, in floating point; our batches are 8 bit."""

import torch
from torchvision.transforms.v2 import functional as TF

from sam_train.data.loading.transforms import resize_image


def preprocess_image(image, preprocessing):
    """The encoder's input for one image (3 h w, 8 bit)."""
    resized = resize_image(image, preprocessing)
    height, width = resized.shape[-2:]
    side = preprocessing.image_size
    padded = TF.pad(resized, [0, 0, side - width, side - height])
    return preprocessing.normalize(padded[None], torch.tensor([[height, width]]))
