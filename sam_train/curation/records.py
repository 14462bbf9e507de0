"""Images and objects as other formats hold them: files, and plain records with run lengths."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from sam_train.data.sources.base import ImageSet
from sam_train.data.sources.decoding import decode
from sam_train.data.sources.tiff_files import MAGIC as TIFF
from sam_train.metrics.crops import box_around
from sam_train.metrics.rle import encode_crop
from sam_train.structures import Sample

IGNORED = "ignored"
"""Category of the one crowd that stands for pixels that are neither object nor background."""

_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", **dict.fromkeys(TIFF, "tif")}
_NAME = 80  # letters of an image's id in the name of its file


class Record(NamedTuple):
    """An image with its objects.

    Attributes:
        key: Name of its file without suffix: letters, digits, ``-`` and ``_``; unique in its split.
        suffix: Of its file: ``png``, ``jpg`` or ``tif``.
        content: Of its file.
        image: What is said of it: size, id, group, spacing.
        annotations: Of each object: run lengths, box, area, category, and whether it is a crowd.
    """

    key: str
    suffix: str
    content: bytes
    image: dict[str, Any]
    annotations: list[dict[str, Any]]


def read_records(images: ImageSet, indices: range) -> Iterator[Record]:
    """Read images of a set, one after the other.

    Raises:
        FileError: If a file cannot be used.
    """
    for index in indices:
        sample = images.read(index)
        suffix, content = image_file(images.stored(index), sample.image, sample.id)
        key = f"{index:07}_{re.sub(r'[^A-Za-z0-9_-]', '_', sample.id)[-_NAME:]}"
        height, width = sample.size
        image = {"file_name": f"{key}.{suffix}", "height": height, "width": width}
        image |= {"name": sample.id, "group": images.group(index)}
        if sample.spacing is not None:
            image["spacing"] = list(sample.spacing)
        yield Record(key, suffix, content, image, list(_annotations(sample)))


def _annotations(sample: Sample) -> Iterator[dict[str, Any]]:
    crowd = torch.zeros(len(sample.value)) if sample.crowd is None else sample.crowd
    categories = sample.category or ("object",) * len(sample.value)
    for mask, name, is_crowd in zip(sample.each_mask(), categories, crowd.tolist(), strict=True):
        yield _annotation(mask, name, bool(is_crowd))
    if sample.ignore is not None and sample.ignore.any():
        yield _annotation(sample.ignore, IGNORED, True)


def _annotation(mask: Bool[Tensor, "h w"], category: str, is_crowd: bool) -> dict[str, Any]:
    pixels = mask.numpy()
    rows, columns = box_around(pixels)
    part = pixels[rows, columns]
    return {
        "segmentation": encode_crop(part, (rows.start, columns.start), pixels.shape),
        "bbox": [columns.start, rows.start, part.shape[1], part.shape[0]],
        "area": int(part.sum()),
        "iscrowd": int(is_crowd),
        "category": category,
    }


def image_file(content: bytes | None, image: UInt8[Tensor, "3 h w"], name: str) -> tuple[str, bytes]:
    """Return suffix and content of an image's file: its own, with all its bits, or else a new PNG.

    A photograph that is stored turned becomes upright, as its masks are: few tools mind the tag.

    Args:
        content: Of the file that holds the image alone, if there is one.
        image: Its pixels.
        name: For messages.
    """
    kind = next((kind for magic, kind in _KINDS.items() if (content or b"").startswith(magic)), None)
    if content is None or kind is None:
        return "png", _png(image)
    if kind == "tif" or Image.open(io.BytesIO(content)).getexif().get(0x0112, 1) == 1:
        return kind, content
    raster = decode(Path(name), content)
    is_deep = raster.pixels.dtype == np.uint16 and raster.pixels.ndim == 2
    return "png", _encode(Image.fromarray(raster.pixels)) if is_deep else _png(image)


def _png(image: Tensor) -> bytes:
    pixels = image.permute(1, 2, 0).numpy()
    is_gray = bool((pixels == pixels[..., :1]).all())
    return _encode(Image.fromarray(np.ascontiguousarray(pixels[..., 0] if is_gray else pixels)))


def _encode(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
