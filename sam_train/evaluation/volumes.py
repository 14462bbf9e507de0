"""Objects through volumes: the masks of their slices, put together and compared in three dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_train.data.sources.base import VolumeSlice
from sam_train.metrics.rle import Rle, decode_mask
from sam_train.metrics.volume import TOLERANCE, VolumeScore

if TYPE_CHECKING:
    import pyarrow as pa


def score_volumes(
    rows: pa.Table, slices: Mapping[str, VolumeSlice], prompt: str, models: Sequence[str]
) -> dict[str, Any]:
    """Average 3D scores over the objects of volumes.

    An object is all that has one category in one volume. A slice in which it has no pixel has no prompt and so no mask.

    Args:
        rows: With masks.
        slices: Id of each image that is a slice to its place.
        prompt: The kind of prompt whose masks are taken.
        models: Whose masks.

    Returns:
        Of each model ``dice``, ``nsd`` and ``hd95`` (in mm, or voxels where a spacing is not known), and
        ``num_objects``, ``num_volumes``, ``prompt``; nothing where no image is a slice.
    """
    objects: dict[tuple[str, str], list[dict[str, Any]]] = {}
    if slices and "true_rle" in rows.column_names:
        import pyarrow.compute as pc

        wanted = (pc.field("prompt") == prompt) & pc.field("image").isin([*slices]) & pc.field("true_rle").is_valid()
        for row in rows.filter(wanted).to_pylist():
            key = slices[row["image"]].volume, row["category"] or ""
            objects.setdefault(key, []).append(row)
    if not objects:
        return {}
    found: dict[str, Any] = {
        model: _means([_score(of_object, slices, f"{model}_rle") for of_object in objects.values()]) for model in models
    }
    volumes = {volume for volume, _ in objects}
    return {**found, "num_objects": len(objects), "num_volumes": len(volumes), "prompt": prompt}


def _score(rows: Sequence[Mapping[str, Any]], slices: Mapping[str, VolumeSlice], column: str) -> dict[str, float]:
    by_place: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_place.setdefault(slices[row["image"]].place, []).append(row)
    first = rows[0]
    score = VolumeScore(slices[first["image"]].spacing or (1.0, 1.0, 1.0))
    size = first["height"], first["width"]
    for place in range(min(by_place), max(by_place) + 1):
        masks = np.zeros((2, *size), bool)
        for row in by_place.get(place, ()):
            for mask, name in zip(masks, (column, "true_rle"), strict=True):
                mask |= decode_mask(Rle(size=[*size], counts=row[name]))
        score.add(*masks)
    return {"dice": score.dice(), "nsd": score.nsd(TOLERANCE), "hd95": score.hd95()}


def _means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: math.fsum(score[name] for score in scores) / len(scores) for name in scores[0]}
