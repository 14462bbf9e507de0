"""Which column holds the images and which the masks."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sam_train.errors import InputError

MaskKind = Literal["image", "images", "outlines"]
_MASK_WORDS = ("mask", "label", "annotation", "segment", "objects")


class Columns(NamedTuple):
    """Columns of a data set.

    Attributes:
        image: Of the images.
        mask: Of the masks.
        kind: Whether a mask is one image, a list of images, or outlines and run lengths as COCO has them.
    """

    image: str
    mask: str
    kind: MaskKind


def find_columns(features: Mapping[str, Any], image: str | None, mask: str | None, where: str) -> Columns:
    """Return the columns that were named, and others where there is one candidate.

    Args:
        features: Types of the columns.
        image: Of the images; None to find it.
        mask: Of the masks; None to find it.
        where: Name of the data in messages.

    Raises:
        InputError: If a column is not there or of another type, or if there is not one candidate.
    """
    kinds: dict[str, MaskKind] = {name: kind for name, feature in features.items() if (kind := _kind(feature))}
    for setting, name in (("image_column", image), ("mask_column", mask)):
        if name is not None and name not in features:
            near = difflib.get_close_matches(name, features, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"data.{setting}={name}: no such column in {where}; {hint}{_listed(features)}")
    if mask is None:
        candidates = [name for name, kind in kinds.items() if name != image and (kind != "image" or _is_mask(name))]
        mask = _only(candidates, "masks", "mask_column", features, where)
    if image is None:
        candidates = [name for name, kind in kinds.items() if kind == "image" and name != mask and not _is_mask(name)]
        image = _only(candidates, "images", "image_column", features, where)
    if kinds.get(image) != "image":
        raise InputError(f"data.image_column={image}: not of images in {where}; {_listed(features)}")
    if mask not in kinds or mask == image:
        raise InputError(
            f"data.mask_column={mask}: neither images, nor run lengths (size, counts), nor objects with a segmentation "
            f"in {where}; {_listed(features)}"
        )
    return Columns(image, mask, kinds[mask])


def item_of(feature: Any) -> Any:
    """Return the type of a list's items; None if it is no list."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)


def _kind(feature: Any) -> MaskKind | None:
    import datasets

    if isinstance(feature, datasets.Image):
        return "image"
    item = item_of(feature)
    if isinstance(item, datasets.Image):
        return "images"
    content = item if isinstance(item, dict) else feature
    is_outline = isinstance(content, dict) and ("counts" in content or "segmentation" in content)
    return "outlines" if is_outline else None


def _is_mask(name: str) -> bool:
    return any(word in name.lower() for word in _MASK_WORDS)


def _only(candidates: list[str], what: str, setting: str, features: Mapping[str, Any], where: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    found = f"{' and '.join(candidates)} may hold {what}" if candidates else f"no column is plainly of {what}"
    raise InputError(f"{where}: {found}; say which with data.{setting}=...; {_listed(features)}")


def _listed(features: Mapping[str, Any]) -> str:
    return "columns there: " + ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
