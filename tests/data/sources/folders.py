"""Small folders of images and masks."""

import struct
import zlib
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


def png_of_16_bits(path: Path, pixels: np.ndarray) -> Path:
    """Write a PNG in color of 16 bits, which Pillow reads but does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def discs(size: tuple[int, int] = (96, 128), seed: int = 0) -> np.ndarray:
    """Numbers of three discs that may overlap, 0 outside."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.uint8)
    for number in range(1, 4):
        (y, x), radius = generator.uniform(0.2, 0.8, 2) * size, generator.uniform(0.1, 0.16) * size[0]
        labels[np.hypot(rows - y, columns - x) < radius] = number
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
