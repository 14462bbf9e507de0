"""A person corrects what is followed by clicks on the worst frame, again and again (Ravi et al. 2024, section 6.1)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.inference.clip_prompts import correct_object, prompt_object
from sam_train.inference.clip_scoring import frame_pairs
from sam_train.inference.video_session import VideoSession
from sam_train.metrics.video import F, J
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.prompts.simulator import PromptSimulator

CLICKS = 3  # on a frame

_PERSON = PromptSimulator(center=1, corrections=CLICKS - 1, correct_at="center")

_Scores = dict[int, dict[int, tuple[float, float]]]  # of each object on each frame: J, F


@torch.no_grad()
def correct_clip(
    model: TrackingModel, clip: HeldOutClip, num_frames: int, advance: Callable[[], object] = lambda: None
) -> dict[int, list[float]]:
    """Follow a clip's objects from clicks, and correct each on the frame where it fits worst.

    Every object gets three clicks on the frame on which :func:`sam_train.inference.following.follow_clip` prompts it.
    All are followed through the clip; then each gets three on the frame with its lowest J, and so on. Frames are read
    and encoded anew each time.

    Args:
        model: In evaluation mode.
        clip: The held-out clip.
        num_frames: On how many frames an object is clicked.
        advance: Called after each time the clip was followed.

    Returns:
        Of each object, the mean J&F over all annotated frames after each time.
    """
    start = clip.frames.start
    session = VideoSession(model, lambda index: clip.read(start + index).image, len(clip.frames))
    _begin(session, clip)
    scores = _follow(session, clip)
    curves = {value: [_mean(of_object)] for value, of_object in scores.items()}
    advance()
    for _ in range(num_frames - 1):
        for value, of_object in scores.items():
            worst = min(of_object, key=lambda frame: (of_object[frame][0], frame))
            correct_object(session, worst - start, clip.read(worst, with_image=False), value, _PERSON, CLICKS)
        scores = _follow(session, clip)
        for value, of_object in scores.items():
            curves[value].append(_mean(of_object))
        advance()
    return curves


def _begin(session: VideoSession, clip: HeldOutClip) -> None:
    """Click on every object where it first appears or, in a volume, on the slice where it is largest."""
    given = clip.given_on() if clip.is_volume else None
    for frame in sorted(clip.annotated()):
        sample = clip.read(frame, with_image=False)
        for value in sample.value.tolist():
            if value not in session.objects and (given is None or given[value] == frame):
                prompt_object(session, frame - clip.frames.start, sample, value, _PERSON)


def _follow(session: VideoSession, clip: HeldOutClip) -> _Scores:
    """Follow all objects through the clip and compare them with the truth."""
    annotated, scores = clip.annotated(), _Scores()
    for found in session.propagate(0):
        frame = found.frame + clip.frames.start
        if frame in annotated:
            for value, pair in frame_pairs(found, clip.read(frame, with_image=False)):
                scores.setdefault(value, {})[frame] = float(J(pair)[0]), float(F(pair)[0])
    return scores


def _mean(of_object: dict[int, tuple[float, float]]) -> float:
    return math.fsum(sum(pair) / 2 for pair in of_object.values()) / len(of_object)
