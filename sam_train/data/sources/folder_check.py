"""The check of one image of a folder and its masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sam_train.data.sources.decoding import decode
from sam_train.data.sources.doubts import Notice
from sam_train.data.sources.folder_masks import FolderMasks
from sam_train.data.sources.image_files import PLAIN, to_rgb
from sam_train.data.sources.mask_doubts import background_as_object, in_many_pieces, void_as_object
from sam_train.data.sources.mask_files import Numbers, num_soft
from sam_train.data.sources.mask_pieces import count_numbers
from sam_train.data.sources.pairing import Pair
from sam_train.data.sources.raster import Raster
from sam_train.data.sources.tones import Tones
from sam_train.errors import FileError, Problem


def check_pair(pair: Pair, masks: FolderMasks, allow_empty: bool, tones: Tones = PLAIN) -> Iterator[Problem]:
    """Read every file of a pair once; yield its problems, and answers to what is asked of the whole set.

    Args:
        pair: The files.
        masks: Reads masks as the settings say.
        allow_empty: Whether a mask may be without objects.
        tones: How the image's numbers become 8 bits.
    """
    if pair.problem:
        yield pair.problem
        return
    raster, image = None, None
    try:
        raster = decode(pair.image, None, tones != PLAIN, pair.page)
        image = to_rgb(raster, pair.image, tones)
    except FileError as error:
        yield error.problem
    for path in pair.masks:
        try:
            numbers = masks.read_file(path, pair, image)
        except FileError as error:
            yield error.problem
            continue
        if numbers.pixels.any():
            yield from _doubts(path, numbers, masks, masks.is_region(pair))
        elif not allow_empty:
            remedy = "add the objects, move image and mask elsewhere, or set data.allow_empty=true"
            yield Problem("all-zero mask", path, "no pixel belongs to an object", remedy)
        if raster is not None and path == pair.masks[0]:
            yield _turned_alone(raster, numbers.orientation, pair.image)


def _doubts(path: Path, numbers: Numbers, masks: FolderMasks, is_region: bool) -> Iterator[Problem]:
    mask = count_numbers(numbers.pixels)
    if not is_region:
        if count := num_soft(mask):
            found = (
                f"most of its {count} numbers are steps from one to another, as smoothing or JPEG leaves along edges"
            )
            remedy = (
                "save it without smoothing (resize with nearest neighbor), or set data.objects=binary or components, "
                "which cut it at half of its maximum, or data.check=false if they are objects"
            )
            yield Problem("soft edges", path, found, remedy)
        else:
            yield in_many_pieces(mask, path)
    if masks.background is None:
        yield background_as_object(mask, numbers.ignored, path)
    yield void_as_object(mask, path)


def _turned_alone(image: Raster, mask_orientation: int, path: Path) -> Notice:
    """Tell whether an image is turned by its EXIF tag and its mask is not, while their sizes agree either way."""
    height, width = image.pixels.shape[:2]
    keeps_size = image.orientation in (2, 3, 4) or (image.orientation in (5, 6, 7, 8) and height == width)
    found = f"EXIF orientation {image.orientation}, its mask {mask_orientation}"
    remedy = (
        "the images are turned as the tag says, and the masks are taken as drawn on the turned images; if they were "
        "drawn on the pixels as stored, remove the tag from the images"
    )
    return Notice(
        "turned by EXIF, masks not", path, found, remedy, keeps_size and mask_orientation != image.orientation
    )
