"""Films a person can watch: frames with the masks that were given and found, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.files import written_whole
from sam_train.inference.following import CLIP_PROTOCOLS, MASK, follow_clip
from sam_train.inference.overlay import grid, paint, panel
from sam_train.inference.video_session import FrameMasks
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.structures import Sample

FRAMES_PER_SECOND = 10
FRAMES_OF_A_STRIP = 6


def film_frames(models: Mapping[str, TrackingModel], clip: HeldOutClip) -> list[Image.Image]:
    """Draw each frame: the truth, where it is known, beside what each model follows from the first mask.

    An object has one color in all of them.
    """
    order: list[int] = []
    pictures: dict[int, Image.Image] = {}
    for followed in follow_clip(models, clip, {MASK: CLIP_PROTOCOLS[MASK]}):
        sample = followed.sample
        order += [value for value in sample.value.tolist() if value not in order]
        truth = panel(sample.image, _paint_truth(sample, order))
        row = [("truth" if followed.is_known else "not annotated", truth)]
        for (name, _), found in followed.found.items():
            row.append((name or "found", panel(sample.image, _paint_found(found, order, sample))))
        pictures[followed.frame] = grid([row])
    return [pictures[frame] for frame in sorted(pictures)]


def _paint_truth(sample: Sample, order: Sequence[int]) -> torch.Tensor:
    absent = torch.zeros(sample.size, dtype=torch.bool)
    masks = dict(zip(sample.value.tolist(), sample.each_mask(), strict=True))
    return paint((masks.get(value, absent) for value in order), sample.size)


def _paint_found(found: FrameMasks, order: Sequence[int], sample: Sample) -> torch.Tensor:
    absent = torch.zeros(sample.size, dtype=torch.bool)
    masks = dict(zip(found.objects, found.masks, strict=True))
    return paint((masks.get(value, absent) for value in order), sample.size)


def film_strip(models: Mapping[str, TrackingModel], clip: HeldOutClip) -> Image.Image:
    """Return a few of a film's frames, from the first to the last, one below the other."""
    return strip_of(film_frames(models, clip))


def strip_of(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return a few of the pictures, from the first to the last, one below the other."""
    places = np.linspace(0, len(pictures) - 1, min(FRAMES_OF_A_STRIP, len(pictures))).round().astype(int)
    chosen = [pictures[place] for place in places]
    strip = Image.new("RGB", (max(one.width for one in chosen), sum(one.height for one in chosen)), "white")
    top = 0
    for picture in chosen:
        strip.paste(picture, (0, top))
        top += picture.height
    return strip


def save_film(pictures: Iterable[Image.Image], path: Path) -> Path:
    """Write a film: an mp4 (H.264) where PyAV is installed, else an animated PNG that browsers play.

    Args:
        pictures: The frames; all of one size, each written before the next is asked for.
        path: Of the film, without suffix.

    Returns:
        The path with its suffix.
    """
    try:
        import av
    except ImportError:
        target = path.with_suffix(".png")
        with written_whole(target) as file:
            first, *others = pictures
            first.save(file, save_all=True, append_images=others, duration=1000 // FRAMES_PER_SECOND, loop=0)
        return target
    target = path.with_suffix(".mp4")
    with written_whole(target) as file, av.open(str(file), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.width, stream.height = (side - side % 2 for side in picture.size)
            pixels = np.asarray(picture.convert("RGB"))[: stream.height, : stream.width]
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return target
