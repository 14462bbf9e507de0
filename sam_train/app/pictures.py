"""The images that are labelled: those of a folder or of a data source, each known by its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool, UInt8
from torch import Tensor

from sam_train.curation.records import image_file
from sam_train.data.sources.base import DataSource, ImageSet, no_objects
from sam_train.data.sources.file_identity import file_content
from sam_train.data.sources.image_files import PLAIN
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.tones import Tones
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import InputError
from sam_train.runs.predict import list_pictures

MOST_PIXELS = 40_000_000
"""Of an image on the page; a browser draws two of them."""


@dataclass(frozen=True)
class Picture:
    """An image to label. Nothing of it is read before it is asked for.

    Attributes:
        name: Unique among those that are opened.
        read: Returns its pixels as the model sees them.
        stored: Returns the content of the file that holds this image alone; None where there is none.
        known: Returns the objects that came with the data: name and mask of each.
    """

    name: str
    read: Callable[[], UInt8[Tensor, "3 h w"]]
    stored: Callable[[], bytes | None]
    known: Callable[[], list[tuple[str | None, Bool[Tensor, "h w"]]]]

    def pixels(self) -> UInt8[Tensor, "3 h w"]:
        """Return the pixels.

        Raises:
            InputError: If the image cannot be read, or is too large for a page.
        """
        found = self.read()
        if found[0].numel() > MOST_PIXELS:
            size = f"{found.shape[1]} x {found.shape[2]} pixels"
            raise InputError(f"{self.name}: {size}; a page shows up to {MOST_PIXELS:,}. Cut the image into tiles")
        return found

    def file(self) -> tuple[str, bytes]:
        """Return suffix and content of a file with this image: its own, or else a new PNG.

        Raises:
            InputError: If the image cannot be read.
        """
        return image_file(self.stored(), self.read(), self.name)


def pictures_in_folder(folder: Path, tones: Tones = PLAIN) -> tuple[list[Picture], list[str]]:
    """Return the images of a folder and all below it, and a note for each file that is none.

    Args:
        folder: The folder; links that lead out of it are not followed.
        tones: How stored numbers become 8 bits.

    Raises:
        InputError: If there is no image.
    """
    found = list_pictures(folder, tones)
    notes = [f"{one.name}: a volume; open its slices with data=volume data.root=..." for one in found if one.is_volume]
    images = [one for one in found if not one.is_volume]
    if not images:
        raise InputError(f"images={folder}: volumes alone; open their slices with data=volume data.root=...")
    return [Picture(one.name, one.read, _content_of(one.path), list) for one in images], notes


def _content_of(path: Path | None) -> Callable[[], bytes | None]:
    return lambda: None if path is None else file_content(path)


def pictures_of_source(source: DataSource) -> list[Picture]:
    """Return the images of all splits of a data source, with their objects.

    Raises:
        InputError: If the settings do not fit the data, or there is no image.
    """
    seen: list[ImageSet] = []
    pictures: list[Picture] = []
    for images in source.splits().values():
        if not any(images is other for other in seen):  # validation images may stand in for those of the test
            seen.append(images)
            pictures += pictures_of_images(images)
    if not pictures:
        raise InputError("data: there are no images in any split; see data.split")
    return pictures


def tones_of_source(source: DataSource) -> Tones:
    """Return how the stored numbers of a source's own files become 8 bits; plainly where images are no such files."""
    if isinstance(source, PixelSource) and not isinstance(source, VolumeSource):
        return source.tones()
    return PLAIN


def pictures_of_images(images: ImageSet) -> list[Picture]:
    """Return the images of a set, with their objects."""
    return [_picture(images, index) for index in range(len(images))]


def _picture(images: ImageSet, index: int) -> Picture:
    def known() -> Iterator[tuple[str | None, Tensor]]:
        sample = images.read(index, with_image=False)
        crowds = [False] * len(sample.value) if sample.crowd is None else sample.crowd.tolist()
        names = sample.category or (None,) * len(sample.value)
        for name, crowd, mask in zip(names, crowds, sample.each_mask(), strict=True):
            if not crowd:
                yield name, mask

    return Picture(
        images.ids[index],
        lambda: images.read(index, no_objects).image,
        lambda: images.stored(index),
        lambda: list(known()),
    )
