"""Small folders of images and masks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from sam_train.data.sources.folder import FolderSource

EVERYTHING = {"split": (0, 0, 1)}  # in one split, in order


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def picture(size: tuple[int, int] = (12, 16), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def two_objects(size: tuple[int, int] = (12, 16)) -> np.ndarray:
    labels = np.zeros(size, np.uint8)
    labels[1:4, 1:5], labels[6:8, 6:9] = 3, 200
    return labels


def make_folder(root: Path, masks: Mapping[str, np.ndarray] | None = None) -> Path:
    """A picture for each mask, both by the stem; by default ten with two objects each."""
    masks = {f"p{number // 2}_{number}": two_objects() for number in range(10)} if masks is None else masks
    for seed, (stem, labels) in enumerate(masks.items()):
        save(root / "images" / f"{stem}.png", picture(labels.shape, seed))
        save(root / "masks" / f"{stem}.png", labels)
    return root


def read_only(root, **options):
    """The samples of a folder that is not split."""
    source = FolderSource(str(root), **EVERYTHING, **options).splits()["test"]
    return [source.read(index) for index in range(len(source))]
