"""Following objects: how well beside two simple ways, and what it costs.

python -m benchmarks.video quality                  # held-out procedural clips
python -m benchmarks.video quality .../video_davis2016 blackswan,dog,horsejump-high
python -m benchmarks.video speed                    # one object and twenty; of a training step, benchmarks.clip_step
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from statistics import fmean

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from sam_train.data.loading.clip_dataset import HeldOutClip, HeldOutClips
from sam_train.data.sources.video.clips import ClipSet, ClipSubset
from sam_train.data.sources.video.davis import DavisSource
from sam_train.data.world.film import ToyVideoSource
from sam_train.inference.clip_scoring import score_clip
from sam_train.inference.following import CLIP_PROTOCOLS, MASK
from sam_train.inference.video_session import encode_frame
from sam_train.metrics.base import MaskPairs
from sam_train.metrics.video import J_AND_F, VIDEO_METRICS
from sam_train.models.sam2.memory_bank import MemoryBank
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.runs.run import base_model
from sam_train.runs.settings import ModelChoice
from sam_train.structures import Prompts

Step = Callable[[Tensor, Tensor], Tensor]


def quality(clips: ClipSet) -> None:
    """Print J&F from the first mask, the mean over objects."""
    model = base_model(ModelChoice(), 0).eval()
    assert isinstance(model, TrackingModel)
    scores: dict[str, list[float]] = {"repeat the first mask": [], "box of the mask before": [], "follow": []}
    for index in range(len(clips.clips)):
        clip = HeldOutClips(clips)[index]
        rows = score_clip({"": model}, clip, {MASK: CLIP_PROTOCOLS[MASK]}, VIDEO_METRICS).to_pylist()
        scores["follow"] += [row["j_and_f"] for row in rows]
        for name, step in {
            "repeat the first mask": lambda image, mask: mask,
            "box of the mask before": boxed(model),
        }.items():
            found = simple(clip, step)
            scores[name] += [found[row["object"]] for row in rows]
        print(clip.name, {name: round(fmean(of[-len(rows) :]), 3) for name, of in scores.items()}, flush=True)
    for name, values in scores.items():
        print(f"{name:24} J&F {fmean(values):.3f} over {len(values)} objects of {len(clips.clips)} clips")


@torch.no_grad()
def boxed(model: TrackingModel) -> Step:
    """Return a step that prompts the image model with the box of the mask before."""

    def step(image: Tensor, mask: Tensor) -> Tensor:
        if not mask.any():
            return mask
        size = mask.shape[0], mask.shape[1]
        corners = model.preprocessing.scale_points(masks_to_boxes(mask[None]).view(1, 2, 2), size)
        features = encode_frame(model, image)
        with torch.no_grad():
            found = model.predict(features, Prompts.from_boxes(corners.flatten(1)), torch.tensor([0]), False)
        return model.preprocessing.restore_logits(found.best().logits, size)[0, 0] > 0

    return step


def simple(clip: HeldOutClip, step: Step) -> Mapping[int, float]:
    """Return the J&F of each object that is followed by a step from the mask before, scored as clips are."""
    masks: dict[int, Tensor] = {}
    scores: dict[int, list[float]] = {}
    for frame in clip.frames:
        sample = clip.read(frame)
        truth = dict(zip(sample.value.tolist(), sample.each_mask(), strict=True))
        for value in masks:
            masks[value] = step(sample.image, masks[value])
            if frame in clip.annotated() and frame != clip.frames[-1]:
                pair = MaskPairs(masks[value][None], truth.get(value, torch.zeros(sample.size, dtype=torch.bool))[None])
                scores.setdefault(value, []).append(float(J_AND_F(pair)[0]))
        masks |= {value: mask for value, mask in truth.items() if value not in masks}
    return {value: fmean(of) for value, of in scores.items()}


def speed(preset: str = "sam2.1_hiera_tiny", side: int = 512) -> None:
    """Print the seconds of a frame by number of objects."""
    torch.manual_seed(0)
    model = base_model(ModelChoice(preset, "random", side), 0).eval()
    assert isinstance(model, TrackingModel)
    images = torch.randn(4, 3, side, side)
    cost = {number: followed(model, images, number) for number in (1, 3, 20)}
    for number, seconds in cost.items():
        print(f"{number:3} objects: {seconds:.2f} s a frame, {seconds / cost[1]:.2f} times one object")


@torch.no_grad()
def followed(model: TrackingModel, images: Tensor, number: int) -> float:
    """Return the processor seconds of the last of some frames, encoding included."""
    bank, objects = MemoryBank.empty(number), torch.zeros(number, dtype=torch.long)
    masks = torch.zeros(number, *images.shape[-2:], dtype=torch.bool)
    masks[:, 50:200, 60:300] = True
    begin = 0.0
    for frame, image in enumerate(images):
        begin = time.process_time()
        features = model.encode_image(image[None])
        given = masks if frame == 0 else None
        _, bank = model.track(features, None, objects, bank, frame, masks=given)
    return time.process_time() - begin


def main(arguments: list[str]) -> None:
    """Measure what the arguments say."""
    if arguments[0] == "speed":
        speed()
    elif len(arguments) == 1:
        clips = ToyVideoSource(0, 0, 8, num_frames=12).splits()["test"]
        assert isinstance(clips, ClipSet)
        quality(clips)
    else:
        everything = DavisSource(arguments[1], split=(0, 0, 1)).splits()["test"]
        assert isinstance(everything, ClipSet)
        names = arguments[2].split(",") if len(arguments) > 2 else [clip.name for clip in everything.clips]
        quality(ClipSubset(everything, [row for row, clip in enumerate(everything.clips) if clip.name in names]))


if __name__ == "__main__":
    main(sys.argv[1:])
