"""Which frames of a clip train together."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def choose_frames(
    num_frames: int,
    annotated: Sequence[int],
    start: int,
    length: int,
    max_stride: int,
    is_reversed: bool,
    generator: torch.Generator,
) -> list[int]:
    """Return the indices of frames that begin with an annotated one and go on at a random stride.

    If possible, another annotated frame is among them: where few are, frames are so far apart that the next one is met,
    and what lies between is seen without being known. Where the clip ends, time turns round.

    Args:
        num_frames: Frames of the clip.
        annotated: Indices of annotated frames, ascending.
        start: The first frame; annotated.
        length: Number of frames wanted.
        max_stride: Frames follow each other at 1 to this distance.
        is_reversed: Whether to go back in time if the clip goes on there.
        generator: Draws the stride.
    """
    if num_frames == 1:
        return [start] * length
    way = -1 if is_reversed else 1
    longest = max(max_stride, 1)
    stride: float = int(torch.randint(1, longest + 1, (), generator=generator))
    while stride > 1 and not _fits(start, way, stride, length, num_frames):
        stride -= 1
    if not _fits(start, way, stride, length, num_frames) and _room(start, -way, num_frames) > _room(
        start, way, num_frames
    ):
        way = -way
    known = set(annotated) - {start}
    frames = _walk(start, way, stride, length, num_frames)
    if known and length > 1 and not known.intersection(frames):
        other = min(known, key=lambda frame: (abs(frame - start), frame))
        way = 1 if other > start else -1
        distance = abs(other - start)
        frames = _walk(start, way, distance / min(length - 1, distance), length, num_frames)
    return frames


def _room(start: int, way: int, num_frames: int) -> int:
    """Return the number of frames that lie ahead."""
    return num_frames - 1 - start if way > 0 else start


def _fits(start: int, way: int, stride: float, length: int, num_frames: int) -> bool:
    return stride * (length - 1) <= _room(start, way, num_frames)


def _walk(start: int, way: int, stride: float, length: int, num_frames: int) -> list[int]:
    """Return equally spaced frames, mirrored at the ends of the clip."""
    period = 2 * (num_frames - 1)
    steps = (int(number * stride + 0.5) for number in range(length))
    return [min(frame, period - frame) for frame in ((start + way * step) % period for step in steps)]
