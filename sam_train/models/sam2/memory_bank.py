"""What SAM 2 remembers of objects in a clip, as a value, and which of it a frame looks back on.

Nothing here changes: tracking through a frame returns another bank (:meth:`sam_train.models.sam2.sam2.Sam2.track`). So
a bank may be kept, gone back to, split and put together, and gradients flow through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sam_train.tensors import Tensors

# Of the released configurations (sam2/modeling/sam2_base.py).
NUM_MEMORIES = 7  # learned ages of memories: 1 to 6 frames, and one for conditioning frames however old
MAX_POINTERS = 16  # a clip is looked back on for up to 15 frames


@dataclass(frozen=True)
class TrackingRules:
    """How a model follows objects. The defaults are the released video predictor's; training has rules of its own.

    Attributes:
        stable_masks: Replace a single mask that is unstable by the best of three
            (:func:`sam_train.models.sam2.mask_decoder.prefer_stable`).
        binarize_prompted: Remember masks of prompted frames as the set of pixels that is shown, not as probabilities.
        only_past_pointers: Look at the pointers of conditioning frames that lie behind, not ahead, on the clip's way.
        max_conditioning: Number of conditioning frames looked at, the nearest; -1 for all.
        stride: Distance in frames between memories of tracked frames, apart from the last one.
        memory_dtype: What memories are kept in, such as the official predictor's ``torch.bfloat16``; None for what
            the model computes in.
    """

    stable_masks: bool = True
    binarize_prompted: bool = True
    only_past_pointers: bool = True
    max_conditioning: int = -1
    stride: int = 1
    memory_dtype: torch.dtype | None = None


INFERENCE = TrackingRules()
TRAINING = TrackingRules(stable_masks=False, binarize_prompted=False, only_past_pointers=False)


@dataclass(frozen=True)
class Course:
    """The way through a clip.

    Attributes:
        reverse: Whether frames are visited from the last to the first.
        num_frames: Number of frames of the clip, where that is known: pointers of clips shorter than
            :data:`MAX_POINTERS` were trained with another scale of time.
    """

    reverse: bool = False
    num_frames: int | None = None

    @property
    def step(self) -> int:
        """Return the difference between the indices of a frame and the one visited before it."""
        return -1 if self.reverse else 1

    @property
    def num_pointers(self) -> int:
        """Return how many frames' pointers are looked at, the present frame's included."""
        return MAX_POINTERS if self.num_frames is None else min(self.num_frames, MAX_POINTERS)

    def behind(self, frame: int, other: int) -> int:
        """Return how many frames ago ``other`` was visited when ``frame`` is; negative if it lies ahead."""
        return (frame - other) * self.step


FORWARD = Course()


@dataclass(frozen=True)
class Memory(Tensors):
    """What is remembered of one object on one frame.

    Attributes:
        frame: Index of the frame.
        pointer: The object's vector.
        values: The memory of each cell of the frame; None once only the pointer can still be of use.
        keys: What cross-attention compares cells by, of each layer, without their age; see
            :class:`sam_train.models.sam2.memory_attention.MemoryCrossAttention`. None if made again when needed.
    """

    frame: int
    pointer: Float[Tensor, "C"]
    values: Float[Tensor, "L D"] | None
    keys: tuple[Float[Tensor, "L C"], ...] | None = None


class Recollection(NamedTuple):
    """What one object looks back on from a frame.

    Attributes:
        ages: Per memory, its row in the table of ages.
        memories: Those whose cells are looked at.
        distances: Per pointer, how many frames ago it was; negative if its frame lies ahead.
        pointers: Memories whose pointers are looked at.
    """

    ages: tuple[int, ...]
    memories: tuple[Memory, ...]
    distances: tuple[int, ...]
    pointers: tuple[Memory, ...]


@dataclass(frozen=True)
class ObjectMemory(Tensors):
    """All that is remembered of one object, by frame.

    Attributes:
        conditioning: Frames on which it was prompted or corrected.
        tracked: Frames that it was followed through.
    """

    conditioning: tuple[Memory, ...] = ()
    tracked: tuple[Memory, ...] = ()

    def add(self, memory: Memory, conditioning: bool) -> ObjectMemory:
        """Return this and one frame more; what was remembered of that frame before is replaced."""
        kept = [tuple(old for old in some if old.frame != memory.frame) for some in (self.conditioning, self.tracked)]
        kept[not conditioning] += (memory,)
        return ObjectMemory(*(tuple(sorted(some, key=lambda old: old.frame)) for some in kept))

    def look_back(self, frame: int, course: Course, rules: TrackingRules) -> Recollection:
        """Return what is looked at from ``frame``: Ravi et al. 2024, section 4, "memory bank"."""
        nearest, others = select_conditioning(self.conditioning, frame, rules.max_conditioning)
        tracked = {memory.frame: memory for memory in (*others, *self.tracked)}
        step = course.step
        recent = {
            age: tracked[other]
            for age, ago in enumerate(_frames_ago(frame * step, rules.stride))
            if (other := frame - ago * step) in tracked and tracked[other].values is not None
        }
        pointers = [
            (distance, memory)
            for memory in nearest
            if (distance := course.behind(frame, memory.frame)) >= 0 or not rules.only_past_pointers
        ]
        pointers += [
            (ago, tracked[other]) for ago in range(1, course.num_pointers) if (other := frame - ago * step) in tracked
        ]
        return Recollection(
            ages=(*[NUM_MEMORIES - 1] * len(nearest), *recent),
            memories=(*nearest, *recent.values()),
            distances=tuple(distance for distance, _ in pointers),
            pointers=tuple(memory for _, memory in pointers),
        )

    def forget(self, frame: int, course: Course, rules: TrackingRules) -> ObjectMemory:
        """Return what tracking on from ``frame`` can still look at."""
        longest = max(_frames_ago(frame * course.step, rules.stride))

        def shorten(memory: Memory) -> Memory:
            ago = course.behind(frame, memory.frame)
            return memory if ago <= longest else replace(memory, values=None, keys=None)

        within = max(course.num_pointers - 1, longest)
        kept = (memory for memory in self.tracked if course.behind(frame, memory.frame) <= within)
        return replace(self, tracked=tuple(shorten(memory) for memory in kept))


@dataclass(frozen=True)
class MemoryBank(Tensors):
    """What is remembered of P objects, each with frames of its own.

    Attributes:
        objects: Per object, in the order in which objects are packed.
    """

    objects: tuple[ObjectMemory, ...]

    @classmethod
    def empty(cls, num_objects: int) -> MemoryBank:
        """Return the bank of objects that nothing is known of yet."""
        return cls((ObjectMemory(),) * num_objects)

    @classmethod
    def cat(cls, banks: Iterable[MemoryBank]) -> MemoryBank:
        """Return the bank of all objects, in order; they need not remember the same frames."""
        return cls(tuple(one for bank in banks for one in bank.objects))

    def __len__(self) -> int:
        return len(self.objects)

    def of(self, objects: Iterable[int]) -> MemoryBank:
        """Return the bank of these objects only, in this order."""
        return MemoryBank(tuple(self.objects[index] for index in objects))

    def put(self, objects: Sequence[int], bank: MemoryBank) -> MemoryBank:
        """Return this bank with these objects' memories replaced by those of another."""
        replaced = dict(zip(objects, bank.objects, strict=True))
        return MemoryBank(tuple(replaced.get(index, one) for index, one in enumerate(self.objects)))

    def add(self, memories: Sequence[Memory], conditioning: bool) -> MemoryBank:
        """Return this bank and a frame more of each object."""
        pairs = zip(self.objects, memories, strict=True)
        return MemoryBank(tuple(one.add(memory, conditioning) for one, memory in pairs))

    def look_back(self, frame: int, course: Course, rules: TrackingRules) -> list[Recollection]:
        """Return what each object looks at from ``frame``."""
        return [one.look_back(frame, course, rules) for one in self.objects]

    def forget(self, frame: int, course: Course = FORWARD, rules: TrackingRules = INFERENCE) -> MemoryBank:
        """Return what tracking from ``frame`` on in this direction can still look at.

        Conditioning frames stay whatever their number; of the others 6 memories and 15 pointers. So a bank that forgets
        after every frame does not grow with the clip. What lies ahead of ``frame`` is kept.
        """
        return MemoryBank(tuple(one.forget(frame, course, rules) for one in self.objects))


def select_conditioning(
    memories: Sequence[Memory], frame: int, most: int
) -> tuple[tuple[Memory, ...], tuple[Memory, ...]]:
    """Return the conditioning frames that are looked at from ``frame``, and the others.

    They are the nearest one before, the nearest at or after it, and then whichever are nearest, up to ``most``; -1 for
    all.
    """
    if most == -1 or len(memories) <= most:
        return tuple(memories), ()
    by_distance = sorted(memories, key=lambda memory: abs(memory.frame - frame))
    before = [memory for memory in by_distance if memory.frame < frame][:1]
    after = [memory for memory in by_distance if memory.frame >= frame][:1]
    frames = {memory.frame: None for memory in (*before, *after, *by_distance)}  # each once, in this order
    chosen = [*frames][:most]
    by_frame = {memory.frame: memory for memory in memories}
    return tuple(by_frame[frame] for frame in chosen), tuple(by_frame[frame] for frame in by_frame.keys() - {*chosen})


def _frames_ago(frame: int, stride: int) -> list[int]:
    """Return how many frames ago the tracked frames that are looked at are, the last one first.

    It is followed by the last frames that are multiples of ``stride``.

    Args:
        frame: Index on an axis that runs the clip's way.
        stride: See :attr:`TrackingRules.stride`.
    """
    second = (frame - 2) // stride * stride
    return [1, *(frame - (second - index * stride) for index in range(NUM_MEMORIES - 2))]
