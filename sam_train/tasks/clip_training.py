"""How a model is trained to follow objects: which frames of a clip, and what is said on which of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from sam_train.data.loading.clip_dataset import ClipChoice
from sam_train.errors import InputError
from sam_train.models.sam2.clip import ClipSchedule
from sam_train.prompts.clip_person import Kind


@dataclass(frozen=True)
class ClipTraining:
    """Settings of training on clips. The defaults are SAM 2's (Ravi et al. 2024, appendix D.2.2).

    Attributes:
        num_frames: Frames of a clip that train together.
        max_stride: They follow each other at 1 to this many frames of the video.
        reverse: How often time runs backward.
        mask: How often, relative to the others, objects are given by their masks.
        point: By one click.
        box: By a box.
        conditioning: On at most this many frames; how many is drawn.
        corrected: Where clicks or boxes are given, on at most this many frames more clicks follow: the first ones, and
            others.
        corrections: Number of these clicks on a frame.
        checkpoint_activations: Look back, and encode what is remembered, once more in the backward pass instead of
            keeping what happened inside: the same gradients for less memory and more time.
        max_val_clips: Validation follows at most this many clips; None for all.
        max_val_frames: And of each at most this many frames; None for all. The report follows all, whole.
    """

    num_frames: int = 8
    max_stride: int = 3
    reverse: float = 0.5
    mask: float = 0.5
    point: float = 0.25
    box: float = 0.25
    conditioning: int = 2
    corrected: int = 2
    corrections: int = 7
    checkpoint_activations: bool = False
    max_val_clips: int | None = 8
    max_val_frames: int | None = 24

    def __post_init__(self) -> None:
        if (
            self.num_frames < 1
            or self.max_stride < 1
            or self.conditioning < 1
            or min(self.corrected, self.corrections) < 0
        ):
            raise InputError(
                f"task.num_frames={self.num_frames}, max_stride={self.max_stride}, conditioning={self.conditioning}, "
                f"corrected={self.corrected}, corrections={self.corrections}: the first three are at least 1, "
                "the others at least 0"
            )
        if min(self.mask, self.point, self.box) < 0 or not self.mask + self.point + self.box:
            raise InputError(f"task.mask={self.mask}, point={self.point}, box={self.box}: give one of them more than 0")
        if self.num_frames == 1 and not self.point + self.box:
            raise InputError("task.num_frames=1: nothing is learned from masks given on the only frame; give points")

    def choice(self, max_objects: int) -> ClipChoice:
        """Return which part of a clip is loaded."""
        return ClipChoice(self.num_frames, self.max_stride, self.reverse, max_objects)

    def draw(self, known: Bool[Tensor, "T P"], generator: torch.Generator) -> tuple[Kind, ClipSchedule]:
        """Draw what is given, and on which frames; only where the masks of all objects are known.

        Images, which are clips of one frame, are not given by masks, from which nothing would be learned.
        """
        weights = torch.tensor([self.mask * (len(known) > 1), self.point, self.box], dtype=torch.float)
        kinds: tuple[Kind, ...] = ("mask", "point", "box")
        kind = kinds[int(torch.multinomial(weights, 1, generator=generator))]
        frames = [frame for frame in known.all(dim=1).nonzero()[:, 0].tolist() if frame > 0]
        others = [frames[place] for place in torch.randperm(len(frames), generator=generator).tolist()]
        most = min(self.conditioning, len(others) + 1)
        num_conditioning = int(torch.randint(1, most + 1, (), generator=generator))
        conditioning = (0, *sorted(others[: num_conditioning - 1]))
        if kind == "mask":
            return kind, ClipSchedule(conditioning)
        more = others[num_conditioning - 1 :]
        extra = max(min(self.corrected - num_conditioning, len(more)), 0)
        num_extra = int(torch.randint(0, extra + 1, (), generator=generator))
        corrected = (*conditioning[: self.corrected], *sorted(more[:num_extra]))
        return kind, ClipSchedule(conditioning, corrected if self.corrections else (), self.corrections)
