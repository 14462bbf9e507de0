"""The bookkeeping of the official video predictor around ``Sam2.track``: which outputs are kept, and where.

Its default is kept too: a correction of a frame that was tracked is not a conditioning frame, and tracking through that
frame again forgets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F

from sam_train.models.sam2.memory_bank import INFERENCE, Course, Memory, MemoryBank, TrackingRules
from sam_train.models.sam2.sam2 import Sam2
from sam_train.models.sam2.tracking import ABSENT_LOGIT, empty_where_absent
from sam_train.structures import ImageFeatures, MaskPrediction, PointLabel, Prompts

LARGEST_LOGIT = 32  # of a prediction that is fed back
NOT_THE_FOREMOST = -10  # the most that a logit can be where another object is more certain


@dataclass(frozen=True)
class Settings:
    """Of the predictor; those that a scenario changes."""

    add_all_frames_to_correct_as_cond: bool = False
    non_overlap_masks: bool = False
    memory_dtype: torch.dtype = torch.bfloat16
    fill_holes: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass
class Tracked:
    """One object: its memories, the masks that are shown, and what was not yet made part of either."""

    bank: MemoryBank = field(default_factory=lambda: MemoryBank.empty(1))
    shown: dict[int, MaskPrediction] = field(default_factory=dict)
    points: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    reverse_at: dict[int, bool] = field(default_factory=dict)
    pending: dict[int, tuple[MaskPrediction, Memory, bool]] = field(default_factory=dict)

    def latest(self, frame: int) -> MaskPrediction | None:
        return self.pending[frame][0] if frame in self.pending else self.shown.get(frame)

    def memory(self, frame: int) -> Memory:
        one = self.bank.objects[0]
        return next(memory for memory in (*one.conditioning, *one.tracked) if memory.frame == frame)

    @property
    def conditioning(self) -> set[int]:
        return {memory.frame for memory in self.bank.objects[0].conditioning}


class OfficialPredictor:
    """One video, whose frames are encoded when needed and once."""

    def __init__(
        self,
        model: Sam2,
        features: Callable[[int], ImageFeatures],
        num_frames: int,
        size: tuple[int, int],
        settings: Settings = Settings(),
    ) -> None:
        self.model = model
        self.features = features
        self.num_frames = num_frames
        self.size = size
        self.settings = settings
        self.objects: dict[int, Tracked] = {}

    @property
    def rules(self) -> TrackingRules:
        return replace(INFERENCE, memory_dtype=self.settings.memory_dtype)

    @property
    def has_tracked(self) -> bool:
        return any(one.bank.objects[0].tracked for one in self.objects.values())

    def add_points(self, object_id, frame, points=None, labels=None, box=None, clear_old=True) -> torch.Tensor:
        """Clicks and a box, in pixels of the video."""
        one = self.objects.setdefault(object_id, Tracked())
        corners = torch.tensor([box] if box else []).view(-1, 2)
        corner_labels = torch.tensor([PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT])[: len(corners)]
        clicks = self.model.preprocessing.scale_points(
            torch.cat([corners, torch.tensor(points or []).view(-1, 2)])[None], self.size
        )
        click_labels = torch.cat([corner_labels, torch.tensor(labels or [], dtype=torch.long)])[None]
        if not clear_old and frame in one.points:
            clicks, click_labels = (
                torch.cat([one.points[frame][0], clicks], 1),
                torch.cat([one.points[frame][1], click_labels], 1),
            )
        one.points[frame] = clicks, click_labels
        previous = one.latest(frame)
        logits = None if previous is None else previous.logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        return self._prompt(one, frame, Prompts(clicks, click_labels, masks=logits), None)

    def add_mask(self, object_id, frame, mask: torch.Tensor) -> torch.Tensor:
        """A mask over the video's frame."""
        one = self.objects.setdefault(object_id, Tracked())
        side = self.model.preprocessing.image_size
        resized = F.interpolate(mask[None, None].float(), (side, side), mode="bilinear", antialias=True)
        return self._prompt(one, frame, None, resized[:, 0] >= 0.5)

    def _prompt(self, one: Tracked, frame: int, prompts: Prompts | None, masks: torch.Tensor | None) -> torch.Tensor:
        is_first = frame not in one.reverse_at
        conditioning = is_first or self.settings.add_all_frames_to_correct_as_cond
        course = Course(one.reverse_at.get(frame, False), self.num_frames)
        shown, bank = self._track([one], frame, prompts, masks, not is_first, conditioning, course)
        some = bank.objects[0].conditioning if conditioning else bank.objects[0].tracked
        one.pending[frame] = shown, next(memory for memory in some if memory.frame == frame), conditioning
        return self._video_logits(frame)

    def _track(self, objects, frame, prompts, masks, looks_back, conditioning, course):
        bank = MemoryBank.cat(one.bank for one in objects)
        image = torch.zeros(len(objects), dtype=torch.long)
        features, rules = self.features(frame), self.rules
        prediction, remembered = self.model.track(
            features,
            prompts,
            image,
            bank,
            frame,
            masks=masks,
            looks_back=looks_back,
            conditioning=conditioning,
            course=course,
            rules=rules,
        )
        shown = empty_where_absent(prediction.best())
        if self.settings.fill_holes is not None:
            shown = replace(shown, logits=self.settings.fill_holes(shown.logits))
            if prompts is not None:  # the masks of tracked frames are remembered with their holes
                remembered = self.model.remember(
                    features, shown, image, bank, frame, is_prompted=True, conditioning=conditioning, rules=rules
                )
        return shown, remembered

    def propagate(self, start: int | None = None, reverse: bool = False) -> Iterator[tuple[int, torch.Tensor]]:
        """Frames and what is shown on them."""
        for one in self.objects.values():
            for frame, (shown, memory, conditioning) in one.pending.items():
                one.bank = one.bank.add([memory], conditioning)
                one.shown[frame] = shown
            one.pending.clear()
        if start is None:
            start = min(frame for one in self.objects.values() for frame in one.conditioning)
        course = Course(reverse, self.num_frames)
        for frame in range(start, -1, -1) if reverse else range(start, self.num_frames):
            followed = [one for one in self.objects.values() if frame not in one.conditioning]
            if followed:
                shown, bank = self._track(followed, frame, None, None, True, False, course)
                for index, one in enumerate(followed):
                    one.bank = bank.of([index])
                    one.shown[frame] = shown._map(lambda tensor, index=index: tensor[index : index + 1])
            for one in self.objects.values():
                one.reverse_at[frame] = reverse
            yield frame, self._video_logits(frame)

    def _video_logits(self, frame: int) -> torch.Tensor:
        nothing = torch.full((1, 1, *self.model.parts.prompt_encoder.mask_size), ABSENT_LOGIT)
        shown = [one.latest(frame) for one in self.objects.values()]
        logits = torch.cat([nothing if one is None else one.logits for one in shown])
        logits = self.model.preprocessing.restore_logits(logits, self.size)
        if self.settings.non_overlap_masks and len(logits) > 1:
            is_foremost = logits == logits.amax(dim=0)
            logits = torch.where(is_foremost, logits, logits.clamp(max=NOT_THE_FOREMOST))
        return logits
