"""Points, boxes and rough masks as people give them, in pixels of the image, as a model's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing
from sam_train.structures import PointLabel, Prompts

Numbers: TypeAlias = Sequence[Any] | np.ndarray | Tensor
"""Numbers in lists, an array or a tensor."""

_CLICKS = (PointLabel.EMPTY, PointLabel.BACKGROUND, PointLabel.OBJECT)


def object_prompts(
    points: Numbers | None = None,
    labels: Numbers | None = None,
    boxes: Numbers | None = None,
    masks: Numbers | None = None,
    *,
    size: tuple[int, int],
    preprocessing: Preprocessing,
    mask_size: tuple[int, int],
) -> Prompts:
    """Return the prompts of an image's objects for the model.

    Args:
        points: x, y in pixels of the image: (N, 2) of one object, (P, N, 2) of several, or a list of P arrays of
            different lengths.
        labels: Of each point 1 on the object, 0 beside it, -1 no point; by default all are on the object.
        boxes: Of each object x0, y0, x1, y1 in pixels of the image: (4,) or (P, 4).
        masks: Of each object the logits of an earlier prediction: (h, w), (P, h, w) or (P, 1, h, w).
        size: Height and width of the image.
        preprocessing: Of the model.
        mask_size: Height and width of the logits.

    Raises:
        InputError: If there is no prompt, their numbers do not fit each other, or one is not on the image.
    """
    if labels is not None and points is None:
        raise InputError("labels without points: give the points that they belong to")
    if points is None and boxes is None and masks is None:
        raise InputError("no prompt: give points, boxes or masks; everything in an image is found by MaskGenerator")
    parts: list[Prompts] = []
    if boxes is not None:
        parts.append(_boxes(boxes, size))
    if points is not None:
        parts.append(_points(points, labels, size))
    rough = None if masks is None else _masks(masks, mask_size)
    counts = {len(part.points) for part in parts} | ({len(rough)} if rough is not None else set())
    if len(counts) > 1:
        raise InputError(
            f"prompts of {' and '.join(map(str, sorted(counts)))} objects: points, boxes and masks given together "
            "belong to the same objects, so there must be as many of each; points of several objects are (P, N, 2)"
        )
    num_objects = counts.pop()
    prompts = Prompts(torch.zeros(num_objects, 0, 2), torch.zeros(num_objects, 0, dtype=torch.long))
    for part in parts:
        prompts = prompts.with_points(part.points, part.labels)
    is_empty = (prompts.labels == PointLabel.EMPTY).all(dim=1)
    if rough is None and is_empty.any():
        raise InputError(f"object {int(is_empty.nonzero()[0])} has no point: leave it out")
    return replace(prompts, points=preprocessing.scale_points(prompts.points, size), masks=rough)


def pack(parts: Sequence[Prompts], mask_size: tuple[int, int]) -> Prompts:
    """Return the prompts of all images' objects together: rows filled with ``EMPTY``, masks where an object has one."""
    width = max(part.labels.shape[1] for part in parts)
    rows = []
    for part in parts:
        more = width - part.labels.shape[1]
        labels = F.pad(part.labels, (0, more), value=PointLabel.EMPTY)
        rows.append(Prompts(F.pad(part.points, (0, 0, 0, more)), labels))
    together = Prompts.cat(rows)
    if all(part.masks is None for part in parts):
        return together
    masks = [
        torch.zeros(len(part.labels), 1, *mask_size, device=part.labels.device) if part.masks is None else part.masks
        for part in parts
    ]
    has = [torch.full((len(part.labels),), part.masks is not None, device=part.labels.device) for part in parts]
    return replace(together, masks=torch.cat(masks), has_mask=torch.cat(has))


def _boxes(boxes: Numbers, size: tuple[int, int]) -> Prompts:
    found = _numbers(boxes, "boxes")
    found = found[None] if found.ndim == 1 and len(found) else found.reshape(-1, 4) if not found.numel() else found
    if found.ndim != 2 or found.shape[1] != 4:
        raise InputError(f"boxes of shape {tuple(found.shape)}; expected (4,) or (P, 4): x0, y0, x1, y1 of each object")
    height, width = size
    low, high = found[:, :2], found[:, 2:]
    frame = found.new_tensor([width, height])
    _refuse(found, (low > high).any(dim=1), "box", "its second corner is left of or above the first", "x0, y0, x1, y1")
    outside = ((high < 0) | (low > frame)).any(dim=1)
    _refuse(
        found, outside, "box", f"outside of the image of {height} x {width} (height x width)", "pixels of the image"
    )
    return Prompts.from_boxes(found)


def _points(points: Numbers, labels: Numbers | None, size: tuple[int, int]) -> Prompts:
    places = [_numbers(part, "points") for part in _per_object(points, 3)]
    places = [part.reshape(-1, 2) if not part.numel() else part for part in places]
    if wrong := [part for part in places if part.ndim != 2 or part.shape[1] != 2]:
        raise InputError(f"points of shape {tuple(wrong[0].shape)}; expected (N, 2) of an object: x, y of each")
    if labels is None:
        kinds = [torch.ones(len(part), dtype=torch.long) for part in places]
    else:
        kinds = [_numbers(part, "labels").long() for part in _per_object(labels, 2)]
    if [len(part) for part in kinds] != [len(part) for part in places]:
        raise InputError(
            f"labels of {[len(part) for part in kinds]} points for {[len(part) for part in places]}; give one for each"
        )
    height, width = size
    for part, kind in zip(places, kinds, strict=True):
        if others := sorted(set(kind.tolist()) - set(_CLICKS)):
            raise InputError(f"labels: {others[0]}; expected 1 on the object, 0 beside it or -1 for no point")
        outside = ((part < 0) | (part > part.new_tensor([width, height]))).any(dim=1) & (kind != PointLabel.EMPTY)
        where = f"outside of the image of {height} x {width} (height x width)"
        _refuse(part, outside, "point", where, "x, y in pixels of the image")
    longest = max((len(part) for part in places), default=0)
    packed = [F.pad(part, (0, 0, 0, longest - len(part))) for part in places]
    packed_kinds = [F.pad(kind, (0, longest - len(kind)), value=PointLabel.EMPTY) for kind in kinds]
    if not packed:
        return Prompts(torch.zeros(0, 0, 2), torch.zeros(0, 0, dtype=torch.long))
    return Prompts(torch.stack(packed), torch.stack(packed_kinds))


def _masks(masks: Numbers, mask_size: tuple[int, int]) -> Float[Tensor, "P 1 h w"]:
    found = _numbers(masks, "masks")
    found = found[None, None] if found.ndim == 2 else found[:, None] if found.ndim == 3 else found
    if found.ndim != 4 or found.shape[1:] != (1, *mask_size):
        raise InputError(
            f"masks of shape {tuple(found.shape)}; expected (P, 1, {mask_size[0]}, {mask_size[1]}): the logits that an "
            "earlier prediction returned, one candidate of each object"
        )
    return found


def _per_object(numbers: Numbers, ndim: int) -> list[Any]:
    """Return the numbers of each object; those of one object have one axis less than those of several."""
    try:
        shape = numbers.shape if isinstance(numbers, (np.ndarray, Tensor)) else np.shape(numbers)  # pyright: ignore[reportArgumentType]
    except ValueError:  # lists of different lengths: one for each object
        return list(numbers)
    return list(numbers) if len(shape) == ndim or shape == (0,) else [numbers]


def _numbers(values: Any, name: str) -> Float[Tensor, "*n"]:
    try:
        if isinstance(values, (list, tuple)) and any(isinstance(value, Tensor) for value in values):
            values = torch.stack([torch.as_tensor(value) for value in values])
        found = torch.as_tensor(values).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: not numbers in rows of one length ({error})") from error
    if not found.isfinite().all():
        raise InputError(f"{name}: a number is not finite (nan or inf); leave that prompt out")
    return found


def _refuse(rows: Tensor, wrong: Tensor, what: str, why: str, expected: str) -> None:
    if wrong.any():
        first = int(wrong.int().argmax())
        raise InputError(f"{what} {first}, {rows[first].tolist()}: {why}; expected {expected}")


def image_of_objects(counts: Sequence[int]) -> Int[Tensor, "P"]:
    """Return each object's image, given how many objects each image has."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long))
