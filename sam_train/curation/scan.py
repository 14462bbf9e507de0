"""Every image and object of a data source in a row of numbers, read once by several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from rich.progress import Progress
from torch import Tensor

from sam_train.curation.looks import look_of
from sam_train.curation.parallel import in_processes
from sam_train.curation.suspicions import suspect, unusual
from sam_train.data.loading.transforms import resize_sample
from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.check import Findings, judge
from sam_train.errors import FileError, Problem
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Sample

_IMAGES_PER_TASK = 16

IMAGE = np.dtype(
    [
        ("split", np.int8),
        ("index", np.int32),
        ("height", np.int32),
        ("width", np.int32),
        ("objects", np.int32),
        ("empty", np.int32),
        ("identity", np.uint64),
        ("pixels", np.uint64),
        ("look", np.uint64),
        ("has_look", np.bool_),
    ]
)
"""An image that could be read: where it is, its size, how many objects it has and how many have no pixel, hashes of
what training knows it by and of its pixels, and its look."""

OBJECT = np.dtype(
    [
        ("image", np.int64),
        ("value", np.int32),
        ("category", np.int32),
        ("area", np.int64),
        ("input_area", np.int32),
        ("crowd", np.bool_),
        ("suspicion", np.int32),
    ]
)
"""An object: the row of its image, its value there, its category, its pixels in the image and in the model's input."""


@dataclass(frozen=True)
class Scan:
    """All that was found.

    Attributes:
        splits: The images of each split that has any; a split that serves twice is there once.
        images: Rows of :data:`IMAGE`, those of a split one after the other.
        objects: Rows of :data:`OBJECT`, those of an image one after the other.
        categories: Names of the categories that objects have.
        findings: What is wrong.
    """

    splits: Mapping[Split, ImageSet]
    images: Shaped[np.ndarray, "I"]
    objects: Shaped[np.ndarray, "A"]
    categories: tuple[str, ...]
    findings: Findings

    def name(self, image: int) -> str:
        """Return the id of an image by its row."""
        row = self.images[image]
        return list(self.splits.values())[row["split"]].ids[int(row["index"])]


class _Part(NamedTuple):
    """Rows of some images; objects refer to them and to the names of categories by position."""

    images: Shaped[np.ndarray, "I"]
    objects: Shaped[np.ndarray, "A"]
    categories: list[str]
    problems: list[Problem]
    number: int


def scan_sources(
    splits: Mapping[Split, ImageSet], preprocessing: Preprocessing, progress: Progress | None = None
) -> Scan:
    """Read every image of every split.

    Args:
        splits: The images; a split that stands in for another is read once.
        preprocessing: Of the model whose input counts.
        progress: Shows how far it is.
    """
    distinct: dict[Split, ImageSet] = {
        name: images for name, images in splits.items() if name != "test" or images is not splits.get("val")
    }
    sources = list(distinct.values())
    tasks = [
        (split, range(first, min(first + _IMAGES_PER_TASK, len(images))))
        for split, images in enumerate(sources)
        for first in range(0, len(images), _IMAGES_PER_TASK)
    ]
    images, objects, problems = [np.empty(0, IMAGE)], [np.empty(0, OBJECT)], []
    names: dict[str, int] = {}
    num_images = 0
    bar = progress.add_task("images", total=sum(map(len, sources))) if progress else None
    for part in in_processes(partial(_read_part, sources, preprocessing), tasks):
        numbers = np.array([names.setdefault(name, len(names)) for name in part.categories], np.int32)
        part.objects["image"] += num_images
        part.objects["category"] = numbers[part.objects["category"]]
        num_images += len(part.images)
        images.append(part.images)
        objects.append(part.objects)
        problems += part.problems
        if progress and bar is not None:
            progress.advance(bar, part.number)
    scan = Scan(distinct, np.concatenate(images), np.concatenate(objects), tuple(names), judge(problems))
    things = np.flatnonzero(~scan.objects["crowd"])
    some = scan.objects[things]
    scan.objects["suspicion"][things] |= unusual(some["input_area"], some["category"])
    return scan


def _read_part(sources: Sequence[ImageSet], preprocessing: Preprocessing, task: tuple[int, range]) -> _Part:
    split, indices = task
    images, objects = np.zeros(len(indices), IMAGE), [np.empty(0, OBJECT)]
    names: dict[str, int] = {}
    problems: list[Problem] = []
    count = 0
    for index in indices:
        problems += sources[split].problems(index)
        try:
            row, found, categories = _read(sources[split], index, preprocessing)
        except FileError as error:
            problems.append(error.problem)
            continue
        row["split"] = split
        found["image"] = count
        found["category"] = [names.setdefault(name, len(names)) for name in categories]
        images[count] = row
        objects.append(found)
        count += 1
    return _Part(images[:count], np.concatenate(objects), list(names), problems, len(indices))


def _read(images: ImageSet, index: int, preprocessing: Preprocessing) -> tuple[np.void, np.ndarray, Sequence[str]]:
    """Return the row of an image, those of its objects, and the names of their categories."""
    asked = 0

    def choose(shares: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
        nonlocal asked
        asked = len(shares)
        return torch.arange(asked)

    sample = images.read(index, choose)
    row, look = np.zeros(1, IMAGE)[0], look_of(sample.image)
    height, width = sample.size
    row["index"], row["height"], row["width"] = index, height, width
    row["objects"], row["empty"] = len(sample.value), asked - len(sample.value)
    row["identity"], row["pixels"] = _number(images.identity(index).encode()), _number(_content(sample))
    row["look"], row["has_look"] = look or 0, look is not None
    objects = np.zeros(len(sample.value), OBJECT)
    objects["value"], objects["area"] = sample.value.numpy(), sample.areas().numpy()
    plain = replace(sample, image=sample.image[:0])
    objects["input_area"] = resize_sample(plain, preprocessing).areas().numpy()
    objects["crowd"] = False if sample.crowd is None else sample.crowd.numpy()
    objects["suspicion"] = np.where(objects["crowd"], 0, suspect(sample))
    return row, objects, sample.category or [""] * len(objects)


def _content(sample: Sample) -> bytes:
    return f"{sample.size}".encode() + sample.image.contiguous().numpy().tobytes()


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
