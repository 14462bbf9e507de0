"""What an npz file, or a pair of npy files, holds: image, labels, boxes and spacing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from sam_train.data.sources.npz.arrays import read_array
from sam_train.data.sources.prompt_files import GivenObject, check_given
from sam_train.data.sources.tones import PERCENTILES, Tones, ends_of, stretched
from sam_train.data.sources.volume.cases import Case
from sam_train.errors import FileError, InputError, Problem

_LAST = 1 << 31  # slice, where boxes say none


def _array(case: Case, name: str) -> np.ndarray:
    path = (case.image if name == "imgs" else case.labels)[0]
    found = read_array(path, name) if path.suffix == ".npz" else read_array(path)
    if found is None:
        raise FileError(Problem("array missing", path, f"has no {name}", "write imgs and gts into it"))
    return found


def labels_of(case: Case) -> Integer[np.ndarray, "n h w"]:
    """Return the number of each pixel of each slice.

    Raises:
        FileError: If the labels are missing or no whole numbers.
    """
    if case.problem:
        raise FileError(case.problem)
    found = _array(case, "gts")
    found = found[None] if found.ndim == 2 else found
    is_whole = found.dtype.kind in "biu" or (found.dtype.kind == "f" and bool((found == np.rint(found)).all()))
    if found.ndim != 3 or not is_whole or not found.size or found.min() < 0 or found.max() > np.iinfo(np.int32).max:
        what = f"gts are {found.dtype} of {found.shape}, where whole numbers from 0 on belong, in 2 or 3 axes"
        raise FileError(Problem("no labels", case.labels[0], what, "write the number of its object for each pixel"))
    return found.astype(np.uint8 if found.max() < 256 else np.int32)


def image_of(case: Case) -> UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w 3"]:
    """Return slices in 8 bits: as they are, or times 255 where they lie between 0 and 1, as MedSAM's npy files do."""
    path, found = case.image[0], _numbers(case)
    if found.ndim == 2 or (found.ndim == 3 and found.shape[-1] == 3):
        found = found[None]
    if found.ndim not in (3, 4) or (found.ndim == 4 and found.shape[-1] != 3):
        remedy = "write rows and columns, slices before them, three channels after them"
        raise FileError(Problem("no image", path, f"imgs have the shape {found.shape}", remedy))
    low, high = float(found.min()), float(found.max())
    if low < 0 or high > 255:
        what = f"imgs hold {low:g} to {high:g}, where prepared ones hold 0 to 1 or 0 to 255"
        remedy = "say how they become 8 bits: data.percentiles=[0.5,99.5] or data.window"
        raise FileError(Problem("not prepared", path, what, remedy))
    scale = 255 if found.dtype.kind == "f" and high <= 1 else 1
    return np.array(np.rint(found * scale) if found.dtype.kind == "f" else found, np.uint8, order="C")


def _numbers(case: Case) -> Shaped[np.ndarray, "*shape"]:
    found = _array(case, "imgs")
    if found.dtype.kind not in "biuf" or not found.size or not np.isfinite(found).all():
        what = f"imgs are {found.dtype} of {found.shape}"
        raise FileError(Problem("no image", case.image[0], what, "write finite numbers"))
    return found


def stored_bands(case: Case, size: tuple[int, ...], tones: Tones) -> Shaped[np.ndarray, "n h w c"]:
    """Return the bands that are shown, as they are stored; bands come after the axes that labels of this size have."""
    found = _numbers(case)
    found = found[None] if found.shape[:3] != size else found
    found = found[..., None] if found.ndim == 3 else found
    if found.shape[:3] != size or found.ndim != 4:
        sizes = f"imgs of {found.shape}, but gts of {size}"
        raise FileError(Problem("size mismatch", case.image[0], sizes, "prepare both anew, from one scan"))
    return tones.chosen(found, case.image[0])


def image_by_rule(
    case: Case, size: tuple[int, ...], tones: Tones
) -> UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w 3"]:
    """Return slices in 8 bits by a rule, of which each file's numbers are stretched together.

    Raises:
        FileError: If the image does not fit labels of this size, or the rule does not fit it.
    """
    shown = stored_bands(case, size, tones)
    if shown.dtype == np.uint8 and not tones.windows and tones.percentiles is None:
        result = np.ascontiguousarray(shown)
    else:
        ends = [tones.window(number) for number in range(3)]
        groups = zip(tones.groups(shown), ends, strict=False)
        parts = [stretched(one, end or ends_of(one, tones.percentiles or PERCENTILES)) for one, end in groups]
        result = np.concatenate(parts, axis=-1)
    if result.shape[-1] == 1:
        return result[..., 0]
    if result.shape[-1] != 3:
        found = f"{result.shape[-1]} bands, and nothing says what they show"
        raise FileError(Problem("unclear bands", case.image[0], found, "say which to show: data.channels=[3,2,1]"))
    return result


def boxes_of(case: Case) -> list[tuple[GivenObject, int, int]]:
    """Return the boxes of a file: left, top, right, bottom, or with the first and the last slice third and sixth."""
    path, found = case.image[0], read_array(case.image[0], "boxes")
    if found is None:
        return []
    if found.ndim != 2 or found.shape[1] not in (4, 6) or found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        what = f"boxes are {found.dtype} of {found.shape}, where rows of 4 numbers belong, or of 6 in volumes"
        remedy = "write x_min, y_min, x_max, y_max in each row, or x_min, y_min, z_min, x_max, y_max, z_max"
        raise FileError(Problem("no boxes", path, what, remedy))
    half = found.shape[1] // 2
    boxes = []
    for row in found.astype(float).tolist():
        try:
            box = check_given(GivenObject((row[0], row[1], row[half], row[half + 1])))
        except InputError as error:
            raise FileError(Problem("no boxes", path, str(error), "mend it")) from error
        boxes.append((box, int(row[2]), int(row[5])) if half == 3 else (box, 0, _LAST))
    return boxes
