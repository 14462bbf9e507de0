"""A whole clip, as SAM 2 trains on it and is evaluated: prompts first, then following, with corrections on the way.

Ravi et al. 2024, appendix D.2.2, and the official trainer (training/model/sam2.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sam_train.models.sam2.memory_bank import TRAINING, Course, MemoryBank, TrackingRules
from sam_train.models.sam2.tracking import TrackingModel, empty_where_absent
from sam_train.structures import ImageFeatures, MaskPrediction, Prompts


@runtime_checkable
class ClipPrompter(Protocol):
    """A person who knows the truth; indices of frames are those of the clip."""

    def first(self, frame: int) -> Prompts | Bool[Tensor, "P S S"]:
        """Return the prompts of a frame that objects are shown on first, or their masks in the frame of the input."""
        ...

    def correct(self, frame: int, prompts: Prompts | None, shown: MaskPrediction) -> Prompts:
        """Return the prompts so far and one point more for each object.

        Args:
            frame: Index of the frame.
            prompts: What was said on this frame; None for nothing.
            shown: The masks that followed, one for each object and empty where it is not there.
        """
        ...


@dataclass(frozen=True)
class ClipSchedule:
    """Which frames of a clip are prompted.

    Attributes:
        conditioning: Frames that objects are shown on first; the first to be visited, and without looking back.
        corrected: Frames on which points are added where the prediction is wrong. On frames with given masks there is
            nothing to correct.
        num_corrections: Points on each of them.
        corrections_condition: Remember corrected frames for good.
    """

    conditioning: tuple[int, ...]
    corrected: tuple[int, ...] = ()
    num_corrections: int = 7
    corrections_condition: bool = True

    def order(self, num_frames: int) -> list[int]:
        """Return all frames in the order in which they are visited."""
        return [*self.conditioning, *(frame for frame in range(num_frames) if frame not in self.conditioning)]


class ClipPrediction(NamedTuple):
    """What is predicted in a clip.

    Attributes:
        rounds: Per frame, in the order of their visits: what follows the first prompts or the memory, and then each
            correction. Frames with given masks have none: nothing is predicted there that could be learned.
        given: Per frame with given masks, these.
        bank: What is remembered at the end.
    """

    rounds: Mapping[int, tuple[MaskPrediction, ...]]
    given: Mapping[int, MaskPrediction]
    bank: MemoryBank

    def shown(self, frame: int) -> MaskPrediction:
        """Return one mask for each object after the last round, empty where it is not there."""
        return self.given.get(frame) or empty_where_absent(self.rounds[frame][-1].best())


def track_clip(
    model: TrackingModel,
    frames: Sequence[ImageFeatures],
    object_image: Int[Tensor, "P"],
    prompter: ClipPrompter,
    schedule: ClipSchedule,
    rules: TrackingRules = TRAINING,
    checkpoint_activations: bool = False,
) -> ClipPrediction:
    """Return masks of P objects in B clips of the same number of frames, which are visited together.

    Args:
        model: The model, in training or evaluation mode.
        frames: Per frame, features of all clips; see :meth:`ImageFeatures.chunk`.
        object_image: Index of each object's clip.
        prompter: What is said of the objects.
        schedule: And on which frames.
        rules: How objects are followed.
        checkpoint_activations: Look back, and encode what is remembered, once more in the backward pass instead of
            keeping what happened inside: the same gradients for less memory and more time.
    """
    run = partial(checkpoint, use_reentrant=False, preserve_rng_state=False) if checkpoint_activations else _call
    course = Course(num_frames=len(frames))
    rounds: dict[int, tuple[MaskPrediction, ...]] = {}
    given: dict[int, MaskPrediction] = {}
    bank = MemoryBank.empty(len(object_image))
    for frame in schedule.order(len(frames)):
        features, is_first, is_corrected = frames[frame], frame in schedule.conditioning, frame in schedule.corrected
        first = prompter.first(frame) if is_first else None
        masks = first if isinstance(first, Tensor) else None
        if masks is not None:
            given[frame] = model.adopt(masks)
        else:
            recalled = None if is_first else run(model.recall, features, object_image, bank, frame, course, rules)
            segment = partial(model.segment, features, recalled, object_image=object_image, rules=rules)
            prompts = first if isinstance(first, Prompts) else None
            correct = partial(prompter.correct, frame)
            rounds[frame] = _segment_in_rounds(segment, prompts, correct, schedule.num_corrections * is_corrected)
        bank = run(
            model.remember,
            features,
            given[frame] if frame in given else rounds[frame][-1],
            object_image,
            bank,
            frame,
            masks=masks,
            is_prompted=is_first or is_corrected,
            conditioning=is_first or (is_corrected and schedule.corrections_condition),
            rules=rules,
        )
        if not is_first:
            bank = bank.forget(frame + 1, course, rules)
    return ClipPrediction(rounds, given, bank)


def _segment_in_rounds(
    segment: Callable[..., MaskPrediction],
    prompts: Prompts | None,
    correct: Callable[[Prompts | None, MaskPrediction], Prompts],
    num_corrections: int,
) -> tuple[MaskPrediction, ...]:
    """Return the prediction and what follows each correction, which sees the logits of the round before."""
    predictions = [segment(prompts=prompts)]
    for number in range(num_corrections):
        shown = empty_where_absent(predictions[-1].best())
        prompts = correct(prompts, shown)
        multimask = False if number > 0 else None  # two points at least
        with_logits = replace(prompts, masks=shown.logits, has_mask=None)
        predictions.append(segment(prompts=with_logits, multimask=multimask))
    return tuple(predictions)


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)
