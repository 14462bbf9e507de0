"""Which images a run is trained on and chosen by, so that none of them is ever called held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sam_train.data.sources.base import ImageSet, Split
from sam_train.errors import InputError
from sam_train.machine import num_processors

_IMAGES_PER_TASK = 64


def image_keys(images: ImageSet) -> Int[Tensor, "n"]:
    """Return a number for each image, by which it is recognized in another split (:meth:`ImageSet.identity`)."""

    def keys(indices: range) -> list[int]:
        digests = (hashlib.blake2b(images.identity(index).encode(), digest_size=8).digest() for index in indices)
        return [int.from_bytes(digest, "big", signed=True) for digest in digests]

    starts = range(0, len(images), _IMAGES_PER_TASK)
    parts = [range(start, min(start + _IMAGES_PER_TASK, len(images))) for start in starts]
    with ThreadPoolExecutor(min(num_processors(), 8)) as pool:  # files are read in part
        return torch.tensor([key for found in pool.map(keys, parts) for key in found], dtype=torch.long)


def known_images(splits: Mapping[Split, ImageSet]) -> dict[str, Int[Tensor, "n"]]:
    """Return the keys of the images that a run is trained on (``train``) and chosen by (``val``).

    Raises:
        InputError: If an image is in two splits; but validation images may stand in for a missing test as a whole.
    """
    apart: dict[Split, ImageSet] = {
        name: images for name, images in splits.items() if name != "test" or images is not splits.get("val")
    }
    keys: dict[Split, Tensor] = {name: image_keys(images) for name, images in apart.items()}
    for one, other in combinations(keys, 2):
        if len(shared := torch.isin(keys[one], keys[other]).nonzero()):
            row = int(shared[0])
            twin = int((keys[other] == keys[one][row]).nonzero()[0])
            raise InputError(
                f"data: {len(shared)} of {len(keys[one])} {one} images are {other} images, too, by their content, such "
                f"as {splits[one].ids[row]} ({one}) and {splits[other].ids[twin]} ({other}); leave each in one split, "
                "or scores tell nothing"
            )
    return {name: keys[name] for name in ("train", "val")}


def require_unseen(record: Mapping[str, Any], images: ImageSet, split: Split, where: str) -> None:
    """Refuse to call images held out that a run was trained on or chosen by.

    Args:
        record: Of the run.
        images: To be scored.
        split: What they are called.
        where: The checkpoint, for messages.

    Raises:
        InputError: If any of them was seen.
    """
    before = {"test": ("train", "val"), "val": ("train",), "train": ()}[split]
    for name in before:
        if count := int(torch.isin(image_keys(images), record["images"][name]).sum()):
            remedy = "Leave data settings as in training (data.root alone may change), or give images it has not seen."
            if name == "val":
                remedy += " evaluation.split=val scores validation images as what they are."
            raise InputError(
                f"evaluation.split={split}: {count} of {len(images)} images were in the {name} split that {where} was "
                f"trained with. {remedy}"
            )
