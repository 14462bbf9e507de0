"""Features of the image encoder on disk, so that an encoder that does not change runs once an image."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam_train.errors import InputError
from sam_train.files import write_json, written_whole
from sam_train.structures import EncoderState, ImageFeatures

Dtype = Literal["bfloat16", "float32"]

Layout = Mapping[str, list[int]]
"""The shape of every tensor of an entry, by its name there."""

_LEVELS = ("embedding", "high_res.0", "high_res.1")
_MAP, _STEPS = "map.", "num_steps"
_SIZE = "original_size"
_LAYOUT_FILE = "layout.json"
_OVERHEAD = 4096  # bytes of an entry beyond its features: names, shapes, and the rest of a disk block


@dataclass(frozen=True)
class EmbeddingCache:
    """A folder with a file for each image and view. Any number of processes may read and write it at once.

    A file appears whole or not at all. Names are hashes of everything an entry was made from, so that an entry is never
    found for an image that has changed; old entries may be deleted at any time between runs.

    Args:
        folder: For entries of any number of encoders.
        encoder: Name of everything that determines features beside the image; see
            :func:`sam_train.tasks.feature_cache.encoder_key`.
        dtype: Number type of stored features. ``bfloat16`` rounds to three digits and takes half the space.
        views: Number of views of each training image, of which the first is not augmented.

    Raises:
        InputError: If there is no such dtype, or no view.
    """

    folder: Path
    encoder: str
    dtype: Dtype = "bfloat16"
    views: int = 1

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise InputError(f"cache.dtype={self.dtype}: possible are {' and '.join(get_args(Dtype))}")
        if self.views < 1:
            raise InputError(f"cache.views={self.views}: an image has at least 1, itself")

    @property
    def place(self) -> Path:
        """Folder of this encoder's entries."""
        return self.folder / f"{self.encoder}-{self.dtype}"

    def path(self, name: str) -> Path:
        """Return the file of the entry of this name, whether it exists or not."""
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        return self.place / digest[:2] / f"{digest}.safetensors"

    def read(self, name: str, original_size: tuple[int, int]) -> ImageFeatures | EncoderState:
        """Return the features of one image, or the encoder's state, in the stored number type.

        Args:
            name: Name of the entry.
            original_size: Height and width that the image is expected to have.

        Raises:
            InputError: If the entry is gone or damaged, or the image was of another size.
        """
        path = self.path(name)
        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path}: the embedding of {name} was there before training and cannot be read now ({error}). Start "
                "again, and it is made anew; every device must see the same cache.folder"
            ) from error
        if tuple(tensors[_SIZE].tolist()) != original_size:
            was = " x ".join(map(str, tensors[_SIZE].tolist()))
            now = " x ".join(map(str, original_size))
            raise InputError(f"size mismatch: {name}: the image is {was}, its masks are {now} (height x width)")
        if _STEPS in tensors:
            maps = (tensors[name] for name in sorted(tensors) if name.startswith(_MAP))
            return EncoderState(tuple(maps), int(tensors[_STEPS]))
        embedding, *high_res = (tensors[level].permute(0, 3, 1, 2) for level in _LEVELS if level in tensors)
        return ImageFeatures(embedding, tuple(high_res))  # pyright: ignore[reportArgumentType]

    def write(self, name: str, features: ImageFeatures | EncoderState, original_size: Int[Tensor, "2"]) -> None:
        """Store the features of one image, in place of an earlier entry.

        Raises:
            InputError: If the disk refuses; nothing of the entry is left then.
        """
        path = self.path(name)
        try:
            with written_whole(path) as temporary:
                save_file({**self._stored(features), _SIZE: original_size.cpu()}, temporary)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: cannot be written ({error}); name another place: cache.folder=...") from error

    def holds(self, name: str, layout: Layout) -> bool:
        """Tell whether the entry of this name exists, complete and in these shapes; only its head is read."""
        try:
            with safe_open(self.path(name), "pt") as file:
                return {key: file.get_slice(key).get_shape() for key in file.keys()} == layout  # noqa: SIM118
        except (OSError, SafetensorError):
            return False

    def layout(self) -> Layout | None:
        """Return the shapes of this encoder's entries; None before :meth:`set_layout`."""
        try:
            return json.loads((self.place / _LAYOUT_FILE).read_text())
        except (OSError, ValueError):
            return None

    def set_layout(self, features: ImageFeatures | EncoderState) -> Layout:
        """Store the shapes that all entries have, taken from one image's features, and return them."""
        layout = {key: list(tensor.shape) for key, tensor in self._stored(features).items()} | {_SIZE: [2]}
        write_json(self.place / _LAYOUT_FILE, layout)
        return layout

    def num_bytes(self, layout: Layout) -> int:
        """Return the bytes that an entry takes on the disk."""
        numbers = sum(torch.Size(shape).numel() for key, shape in layout.items() if key != _SIZE)
        return numbers * getattr(torch, self.dtype).itemsize + _OVERHEAD

    def require_space(self, num_bytes: int) -> int:
        """Return the bytes that are free on the disk.

        Raises:
            InputError: If this many do not fit.
        """
        existing = next(folder for folder in (self.place.absolute(), *self.place.absolute().parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        if num_bytes > free:
            smaller = ", or have half of it with cache.dtype=bfloat16" if self.dtype == "float32" else ""
            fewer = ", or have fewer cache.views" if self.views > 1 else ""
            raise InputError(
                f"cache.folder={self.folder}: the embeddings take {num_bytes / 1e9:.1f} GB, and there are "
                f"{free / 1e9:.1f} GB free; name a folder on a larger disk, delete old entries{fewer}{smaller}"
            )
        return free

    def _stored(self, features: ImageFeatures | EncoderState) -> dict[str, Tensor]:
        """Return the tensors of an entry, channels last as encoders return and decoders use them."""
        dtype = getattr(torch, self.dtype)
        if isinstance(features, EncoderState):
            maps = {f"{_MAP}{index}": map_.detach().to("cpu", dtype) for index, map_ in enumerate(features.maps)}
            return {key: map_.contiguous() for key, map_ in maps.items()} | {_STEPS: torch.tensor(features.num_steps)}
        levels = (features.embedding, *features.high_res)
        return {
            key: level.detach().permute(0, 2, 3, 1).to("cpu", dtype).contiguous()
            for key, level in zip(_LEVELS, levels, strict=False)
        }
