"""Held-out clips are followed: objects are prompted where they first appear, by what a protocol says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.inference.clip_prompts import give_mask, prompt_object
from sam_train.inference.interaction import taken_up
from sam_train.inference.video_session import FrameMasks, VideoSession, encode_frame
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
    """Follow all objects of a clip, each from the first annotated frame it is on.

    A volume is followed from its middle to one end, then to the other; each frame comes once.
    """
    for number, course in enumerate(clip.courses):
        for followed in _follow_course(models, clip, course, protocols):
            if number == 0 or followed.frame != course[0]:
                yield followed


def _follow_course(
    models: Mapping[str, TrackingModel], clip: HeldOutClip, course: Sequence[int], protocols: Mapping[str, Protocol]
) -> Iterator[Followed]:
    """Follow objects through frames in an order; each frame is read once.

    Models that share an encoder in which nothing trains share its features.
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
