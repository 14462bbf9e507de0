"""Held-out clips are followed: objects are prompted where they first appear, by what a protocol says of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.inference.clip_prompts import give_mask, prompt_object
from sam_train.inference.interaction import taken_up
from sam_train.inference.video_session import FrameMasks, VideoSession, encode_frame
from sam_train.metrics.rle import Rle, decode_mask, encode_mask
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.prompts.protocols import Protocol
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import ImageFeatures, Sample

MASK = "mask"
"""Protocol of semi-supervised segmentation: the object's mask is given where the object first appears."""

CLIP_PROTOCOLS: Mapping[str, Protocol] = {
    MASK: Protocol(PromptSimulator(mask=1), "mask of its first frame"),
    "box": Protocol(PromptSimulator(box=1, box_noise=0), "box on its first frame"),
    "clicks": Protocol(PromptSimulator(center=1, corrections=2, correct_at="center"), "3 clicks on its first frame"),
}
"""What is said of an object where it first appears: its mask, its box, or three clicks. None draws at random."""


class Followed(NamedTuple):
    """A frame of a clip that models have seen.

    Attributes:
        frame: Index of the frame.
        sample: The frame and, where known, the truth.
        is_known: Whether the truth is known.
        prompted: The objects that were prompted on it.
        found: By model and protocol.
    """

    frame: int
    sample: Sample
    is_known: bool
    prompted: frozenset[int]
    found: Mapping[tuple[str, str], FrameMasks]


@torch.no_grad()
def follow_clip(
    models: Mapping[str, TrackingModel], clip: HeldOutClip, protocols: Mapping[str, Protocol]
) -> Iterator[Followed]:
    """Follow all objects of a clip, each from the first annotated frame it is on; yield each frame once, in order.

    An object of a volume is followed both ways from the slice on which it is largest, where a person would outline it.
    """
    given = clip.given_on() if clip.is_volume else {}
    if not given:
        yield from _follow_course(models, clip, clip.frames, protocols)
        return
    first, last = min(given.values()), max(given.values())
    backward = range(last, clip.frames.start - 1, -1)
    below = {one.frame: _packed(one) for one in _follow_course(models, clip, backward, protocols, given)}
    above = _follow_course(models, clip, range(first, clip.frames.stop), protocols, given)
    keys = [(name, protocol) for name in models for protocol in protocols]
    annotated = clip.annotated()
    for frame in clip.frames:
        is_below = frame < first
        unseen = Followed(frame, clip.read(frame), frame in annotated, frozenset(), {}) if is_below else None
        followed, masks = unseen or next(above), below.pop(frame, {})
        found = {key: _joined(followed.found.get(key), masks.get(key)) for key in keys}
        yield followed._replace(found=found)


class _PackedMasks(NamedTuple):
    """What is found on a frame, as run lengths, until the frame is yielded."""

    frame: int
    objects: tuple[Hashable, ...]
    masks: Sequence[Rle]
    score: Tensor


def _packed(followed: Followed) -> dict[tuple[str, str], _PackedMasks]:
    return {
        key: _PackedMasks(
            found.frame, found.objects, [encode_mask(mask.cpu().numpy()) for mask in found.masks], found.score
        )
        for key, found in followed.found.items()
    }


def _joined(above: FrameMasks | None, below: _PackedMasks | None) -> FrameMasks:
    """Return what is found on the way up and, of objects that are given farther up, on the way down."""
    if below is None:
        assert above is not None
        return above
    known = () if above is None else above.objects
    rows = [row for row, name in enumerate(below.objects) if name not in known]
    if above is not None and not rows:
        return above
    masks = torch.stack([torch.from_numpy(decode_mask(below.masks[row])) for row in rows])
    more = FrameMasks(below.frame, tuple(below.objects[row] for row in rows), masks, below.score[rows])
    if above is None:
        return more
    both = torch.cat([above.masks, masks.to(above.masks.device)]), torch.cat([above.score, more.score])
    return FrameMasks(above.frame, (*above.objects, *more.objects), *both)


def _follow_course(
    models: Mapping[str, TrackingModel],
    clip: HeldOutClip,
    course: Sequence[int],
    protocols: Mapping[str, Protocol],
    given: Mapping[int, int] | None = None,
) -> Iterator[Followed]:
    """Follow objects through frames in an order; each frame is read once.

    Models that share an encoder in which nothing trains share its features.

    Args:
        models: By name.
        clip: The clip.
        course: The frames.
        protocols: By which objects are prompted.
        given: Of each object, the frame on which it is; by default the first annotated one that it is on.
    """
    sessions = {(name, protocol): VideoSession(model) for name, model in models.items() for protocol in protocols}
    encoders = {
        name: tuple(parameter.data_ptr() for parameter in model.encoding_parameters()) for name, model in models.items()
    }
    annotated, known = clip.annotated(), set[int]()
    for number, frame in enumerate(course):
        sample = clip.read(frame)
        encoded: dict[tuple[int, ...], ImageFeatures] = {}
        for name, model in models.items():
            if encoders[name] not in encoded:
                kept = clip.features(frame, sample.size)
                encoded[encoders[name]] = encode_frame(model, sample.image) if kept is None else taken_up(model, kept)
        new = [value for value in sample.value.tolist() if frame in annotated and value not in known]
        if given is not None:
            new = [value for value in new if given[value] == frame]
        known.update(new)
        found = {}
        for (name, protocol), session in sessions.items():
            masks = session.see_features(encoded[encoders[name]], sample.size)
            if new:
                for value in new:
                    if protocol == MASK:
                        give_mask(session, number, sample, value)
                    else:
                        prompt_object(session, number, sample, value, protocols[protocol].simulator)
                masks = session.masks(number)
            found[name, protocol] = masks
        yield Followed(frame, sample, frame in annotated, frozenset(new), found)
