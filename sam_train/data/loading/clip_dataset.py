"""From a source's clips to training batches, and to held-out clips that are read as they are followed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import Dataset

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.clip_batch import ClipBatch
from sam_train.data.loading.clip_sampling import choose_frames
from sam_train.data.loading.clip_views import ClipViews, frame_name
from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.dataset import EpochIndex, FeatureReader
from sam_train.data.loading.seeds import generator_of
from sam_train.data.loading.views import PLAIN
from sam_train.data.sources.video.clips import ClipSet
from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Batch, EncoderState, ImageFeatures, Sample


@dataclass(frozen=True)
class ClipChoice:
    """Which part of a clip trains.

    Attributes:
        num_frames: Number of frames.
        max_stride: They follow each other at 1 to this many frames of the clip.
        reverse: How often time runs backward.
        max_objects: At most this many objects, all of them seen on the first frame.
    """

    num_frames: int = 8
    max_stride: int = 3
    reverse: float = 0.5
    max_objects: int = 3


class TrainClips(Dataset[ClipBatch]):
    """Parts of clips, chosen anew each epoch: a function of (seed, epoch, clip) alone.

    Args:
        clips: The clips.
        preprocessing: Of the model.
        choice: Which part of a clip.
        augmentation: What to change at random, the same on all frames; None for nothing.
        min_area: Objects smaller than this on the first frame, in pixels of the model's input, are left out.
        seed: Seed of everything random.
        cache: Store of the frames' features, which also says how many views clips have; None to load images.
    """

    def __init__(
        self,
        clips: ClipSet,
        preprocessing: Preprocessing,
        choice: ClipChoice,
        augmentation: Augmentation | None,
        min_area: float,
        seed: int,
        cache: FeatureReader | None = None,
    ) -> None:
        self.clips = clips
        self.views = ClipViews(clips, preprocessing, augmentation, seed, cache.views if cache else None)
        self.choice = choice
        self.min_area = min_area
        self.seed = seed
        self.cache = cache

    def __len__(self) -> int:
        return len(self.clips.clips)

    def __getitem__(self, key: EpochIndex) -> ClipBatch:
        """Return a part of a clip that begins with an object; another clip's if this one has none.

        Raises:
            InputError: If no clip has an object.
        """
        epoch, index = key
        generator = generator_of("clip", self.clips.clips[index].name, epoch, self.seed)
        for clip in [index, *torch.randperm(len(self), generator=generator).tolist()]:
            annotated = self.clips.clips[clip].annotated
            for place in torch.randperm(len(annotated), generator=generator).tolist():
                if batch := self._begin(clip, annotated[place], epoch, generator):
                    return batch
        raise InputError(
            f"loader.min_area={self.min_area}: no training clip has an object that is as large in the model's input; "
            "lower it or raise model.image_size"
        )

    def _begin(self, clip: int, start: int, epoch: int, generator: torch.Generator) -> ClipBatch | None:
        """Return the part of a clip that begins on a frame; None if no object is large enough there."""
        first, view = self.clips.read_frame(clip, start, with_image=False), self.views.of_epoch(epoch)
        large = self._large(clip, first, view)
        if not large.any() and view != PLAIN:  # all moved out of sight
            view = PLAIN
            large = self._large(clip, first, view)
        values = first.value[large]
        if not len(values):
            return None
        chosen = torch.randperm(len(values), generator=generator)[: self.choice.max_objects].sort().values
        content = self.clips.clips[clip]
        numbers = choose_frames(
            len(content.frames),
            content.annotated,
            start,
            self.choice.num_frames,
            self.choice.max_stride,
            bool(torch.rand((), generator=generator) < self.choice.reverse),
            generator,
        )
        frames = {number: self._frame(clip, number, values[chosen], epoch, view) for number in dict.fromkeys(numbers)}
        known = torch.tensor([number in content.annotated for number in numbers])
        draw = int(torch.randint(1 << 62, (), generator=generator))
        return ClipBatch(
            tuple(frames[number] for number in numbers), known[:, None].expand(-1, len(chosen)).clone(), draw
        )

    def _frame(self, clip: int, number: int, values: torch.Tensor, epoch: int, view: int) -> Batch:
        """Return a frame with these objects, whether they are on it or not."""
        sample = self.clips.read_frame(clip, number, with_image=self.cache is None)
        planes = dict(zip(sample.value.tolist(), sample.plane.tolist(), strict=True))
        plane = torch.tensor([planes.get(value, 0) for value in values.tolist()], dtype=torch.long)
        chosen = replace(sample, plane=plane, value=values, category=None, crowd=None, prompts=None)
        varied = self.views.vary_frame(clip, chosen, view)
        batch = to_batch(varied, self.views.preprocessing, sample.size, epoch, self.seed)
        present = torch.isin(values, sample.value)  # a number may be another object's, or scenery's, on other planes
        features = self.cache and self.cache.read(self.views.frame_name(clip, number, view), sample.size)
        return replace(batch, masks=batch.masks & present[:, None, None], features=features)

    def _large(self, clip: int, sample: Sample, view: int) -> torch.Tensor:
        return self.views.vary_frame(clip, sample, view).areas() >= max(self.min_area, 1)


@dataclass
class HeldOutClip:
    """A clip that is read frame by frame, as it is followed.

    Attributes:
        clips: Where it is.
        index: Its index there.
        num_frames: So many of its frames, from the first annotated one on; of a volume, around its middle.
        cache: Store of the frames' features; None to have them encoded.
        source: Name of the source that the clip is of, where there are several.
    """

    clips: ClipSet
    index: int
    num_frames: int
    cache: FeatureReader | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """Return the clip's name."""
        return self._named(self.clips.clips[self.index].name)

    @property
    def ids(self) -> tuple[str]:
        """Return the clip's name, as a batch has the names of its images."""
        return (self.name,)

    @property
    def frames(self) -> range:
        """Return the indices of the frames."""
        content = self.clips.clips[self.index]
        start = content.annotated[0]
        if content.middle is not None:
            start = min(max(content.middle - self.num_frames // 2, 0), len(content.frames) - self.num_frames)
        return range(start, min(start + self.num_frames, len(content.frames)))

    @property
    def group(self) -> str:
        """Return the patient, or the clip where nothing says one."""
        return self._named(self.clips.group_of(self.index))

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Return the distance in mm from one slice, row and column of a volume to the next, where it is known."""
        return self.clips.spacing(self.index)

    @property
    def is_volume(self) -> bool:
        """Whether the frames are slices, which have no first and no last one as time has."""
        return self.clips.clips[self.index].middle is not None

    def given_on(self) -> dict[int, int]:
        """Return, of each object of a volume, the slice on which it is given: the one where it is largest."""
        largest: dict[int, tuple[int, int]] = {}
        for frame in sorted(self.annotated()):
            sample = self.read(frame, with_image=False)
            for value, area in zip(sample.value.tolist(), sample.areas().tolist(), strict=True):
                largest[value] = max(largest.get(value, (0, frame)), (int(area), frame), key=lambda found: found[0])
        return {value: frame for value, (_, frame) in largest.items()}

    def annotated(self) -> set[int]:
        """Return the indices of the frames whose masks are known."""
        return set(self.clips.clips[self.index].annotated).intersection(self.frames)

    def read(self, frame: int, with_image: bool = True) -> Sample:
        """Read a frame."""
        return self.clips.read_frame(self.index, frame, with_image)

    def features(self, frame: int, size: tuple[int, int]) -> ImageFeatures | EncoderState | None:
        """Return what is kept of a frame of this size, as it was encoded; None where nothing is."""
        return None if self.cache is None else self.cache.read(frame_name(self.clips, self.index, frame), size)

    def _named(self, name: str) -> str:
        return f"{self.source}/{name}" if self.source else name

    def to(self, *args: Any, **kwargs: Any) -> HeldOutClip:
        """Return the clip itself: nothing of it is on a device."""
        return self


class HeldOutClips(Dataset[HeldOutClip]):
    """Clips to be followed.

    Args:
        clips: The clips.
        max_clips: At most the first so many; None for all.
        max_frames: At most so many frames of each; None for all.
        cache: Store of the frames' features; None to have them encoded.
        source: Name of the source that the clips are of, where there are several.
    """

    def __init__(
        self,
        clips: ClipSet,
        max_clips: int | None = None,
        max_frames: int | None = None,
        cache: FeatureReader | None = None,
        source: str = "",
    ) -> None:
        self.clips = clips
        self.max_clips = max_clips
        self.max_frames = max_frames
        self.cache = cache
        self.source = source

    def __len__(self) -> int:
        number = len(self.clips.clips)
        return number if self.max_clips is None else min(number, self.max_clips)

    def __getitem__(self, index: int) -> HeldOutClip:
        if not 0 <= index < len(self):
            raise IndexError(index)
        length = len(self.clips.clips[index].frames)
        num_frames = length if self.max_frames is None else min(length, self.max_frames)
        return HeldOutClip(self.clips, index, num_frames, self.cache, self.source)

    def views(self, preprocessing: Preprocessing) -> ClipViews:
        """Return the frames of these clips, as they are."""
        return ClipViews(self.clips, preprocessing, spans=[self[index].frames for index in range(len(self))])
