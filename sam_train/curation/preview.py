"""What a model would see in its first steps: augmented images, their objects, and the prompts that are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool
from PIL import Image, PngImagePlugin
from torch import Tensor

from sam_train.curation import PREVIEW
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.base import DataSource
from sam_train.errors import InputError
from sam_train.files import written_whole
from sam_train.inference.overlay import grid, paint, panel
from sam_train.preprocessing import Preprocessing
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import Batch, PointLabel, Prompts

_COLUMNS = 4
_NAME = 22  # letters of an image's name that fit beside what it is prompted by
_MASK_COLOR = (255, 0, 255)


def training_batches(
    source: DataSource, preprocessing: Preprocessing, loading: Loading, seed: int, number: int
) -> Iterator[Batch]:
    """Yield the first training batches of a run with these settings, in order, until they hold so many images.

    Args:
        source: The data.
        preprocessing: Of the model.
        loading: As in training, in this process alone.
        seed: Of everything random.
        number: Of images.

    Raises:
        InputError: If there are no training images, or a file cannot be used.
    """
    splits = source.settled().splits()
    if not len(splits.get("train", ())):
        raise InputError(f"data: no images for train; there are {', '.join(splits) or 'none at all'}. See data.split")
    loading = replace(loading, max_objects=loading.max_objects or source.default_objects, num_workers=0)
    loader = SegmentationData(splits, preprocessing, loading, seed).train_dataloader()
    while number > 0:
        for batch in loader:
            yield batch
            number -= len(batch.ids)
            if number <= 0:
                return


def save_sheet(
    path: Path, batches: Iterator[Batch], simulator: PromptSimulator, preprocessing: Preprocessing, number: int
) -> None:
    """Draw images of training batches with their objects and first prompts, and save them as one PNG.

    Corrections are not drawn: they depend on what the model finds.

    Args:
        path: Of the picture.
        batches: As training loads them.
        simulator: Gives the prompts, as in training.
        preprocessing: Of the model.
        number: Of images.
    """
    panels = [one for batch in batches for one in _panels(batch, simulator.first(batch), preprocessing)][:number]
    sheet = grid([panels[first : first + _COLUMNS] for first in range(0, len(panels), _COLUMNS)])
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", PREVIEW)
    with written_whole(path) as file:
        sheet.save(file, "PNG", pnginfo=mark)


def _panels(batch: Batch, prompts: Prompts, preprocessing: Preprocessing) -> Iterator[tuple[str, Image.Image]]:
    """Yield each image of a batch with its caption, without the padding."""
    assert batch.images is not None
    for index, name in enumerate(batch.ids):
        height, width = batch.valid_size[index].tolist()
        own = batch.object_image == index
        given = prompts.of(own)
        image = batch.images[index, :, :height, :width]
        if batch.ignore is not None:
            image = torch.where(batch.ignore[index, :height, :width], image // 3, image)
        objects = paint(batch.masks[own, :height, :width], (height, width))
        picture = panel(image, objects, given, preprocessing)
        if given.masks is not None:
            rough = given.masks[given.has_mask] if given.has_mask is not None else given.masks
            inside = F.interpolate(rough, batch.images.shape[-2:], mode="bilinear")[:, 0, :height, :width] > 0
            picture = _with_outlines(picture, inside)
        short = name if len(name) <= _NAME else f"...{name[-_NAME:]}"
        yield f"{short}: {_kinds(given)}", picture


def _kinds(prompts: Prompts) -> str:
    """Return how many objects are prompted by what."""
    is_box = (prompts.labels >= PointLabel.BOX_TOP_LEFT).any(dim=1)
    is_click = (prompts.labels != PointLabel.EMPTY).any(dim=1) & ~is_box
    numbers = {"box": is_box, "click": is_click, "mask": ~is_box & ~is_click}
    return ", ".join(f"{int(which.sum())} {name}" for name, which in numbers.items() if which.any())


def _with_outlines(picture: Image.Image, masks: Bool[Tensor, "n h w"]) -> Image.Image:
    """Return a picture with the outlines of rough masks, the prompts of some objects."""
    pixels = np.array(picture)
    for mask in masks.float():
        shown = F.interpolate(mask[None, None], pixels.shape[:2], mode="nearest")[0]
        inner = -F.max_pool2d(-shown, 3, stride=1, padding=1)
        pixels[((shown > 0) & (inner == 0))[0].numpy()] = _MASK_COLOR
    return Image.fromarray(pixels)
