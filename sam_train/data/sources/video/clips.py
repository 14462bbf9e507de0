"""The contract of a source of clips: frames in order, with the masks of some of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from sam_train.data.sources.base import Choose, ImageSet, Split, all_objects, pixel_hash
from sam_train.data.sources.splits import SPLITS, complete_splits
from sam_train.structures import Sample


@dataclass(frozen=True)
class Clip:
    """A clip without its pixels.

    Attributes:
        name: Unique in its source.
        frames: Names of the frames, in order.
        annotated: Indices of the frames whose masks are known, ascending; at least one.
        middle: Of a volume, whose slices are the frames and have no direction: the one that a part of it is around.
            None of a video, which is followed from its first annotated frame on.
    """

    name: str
    frames: Sequence[str]
    annotated: Sequence[int]
    middle: int | None = None


class ClipSet(ImageSet):
    """Clips of one split, read lazily and frame by frame.

    As a set of images it holds the annotated frames, each in the group of its clip, so that whatever reads images reads
    these. A subclass must have :meth:`read_frame`. An object has the same number on all frames of a clip.

    Attributes:
        clips: The clips, in order.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = tuple(clips)
        self._starts = (0, *accumulate(len(clip.annotated) for clip in clips))
        self._places = tuple((number, frame) for number, clip in enumerate(clips) for frame in clip.annotated)
        self.ids = tuple(f"{clips[number].name}/{clips[number].frames[frame]}" for number, frame in self._places)

    @abstractmethod
    def read_frame(self, clip: int, frame: int, with_image: bool = True) -> Sample:
        """Read one frame and, if it is annotated, the objects on it.

        Without ``with_image`` the image need not be decoded: the sample then has its size but no channel. On frames
        that are not annotated there are no objects.

        Args:
            clip: Index of the clip.
            frame: Index of the frame in the clip.
            with_image: Whether the image is wanted.

        Raises:
            FileError: If a file is missing, unreadable or inconsistent; it names clip and frame.
        """

    def frame_fingerprint(self, clip: int, frame: int) -> str:
        """Return what changes when a frame's pixels change, as :meth:`fingerprint` does; by default a hash of them."""
        return pixel_hash(self.read_frame(clip, frame).image)

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`."""
        return self.frame_fingerprint(*self.place(index))

    def spacing(self, clip: int) -> tuple[float, float, float] | None:
        """Return the distance in mm from one slice, row and column of a volume to the next; None if it is unknown."""
        return None

    def as_clips(self) -> ClipSet:
        """See :meth:`ImageSet.as_clips`."""
        return self

    def place(self, index: int) -> tuple[int, int]:
        """Return the clip and the frame that an image of the set is."""
        return self._places[index]

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`; an image is an annotated frame."""
        sample = self.read_frame(*self.place(index), with_image=with_image)
        height, width = sample.size
        return sample.keep(choose(sample.areas() / (height * width)))

    def group_of(self, clip: int) -> str:
        """Return the group of a clip's frames: the clip itself, or the patient it is of."""
        return self.clips[clip].name

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.group_of(self.place(index)[0])


class ClipSubset(ClipSet):
    """Some clips of another set.

    Args:
        clips: The other set.
        indices: Indices of its clips, in the order wanted.
    """

    def __init__(self, clips: ClipSet, indices: Sequence[int]) -> None:
        super().__init__([clips.clips[index] for index in indices])
        self.whole = clips
        self.indices = tuple(indices)
        self.categories = clips.categories

    def read_frame(self, clip: int, frame: int, with_image: bool = True) -> Sample:
        """See :meth:`ClipSet.read_frame`."""
        return self.whole.read_frame(self.indices[clip], frame, with_image)

    def group_of(self, clip: int) -> str:
        """See :meth:`ClipSet.group_of`."""
        return self.whole.group_of(self.indices[clip])

    def spacing(self, clip: int) -> tuple[float, float, float] | None:
        """See :meth:`ClipSet.spacing`."""
        return self.whole.spacing(self.indices[clip])

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`."""
        return self.whole.identity(self._index(index))

    def frame_fingerprint(self, clip: int, frame: int) -> str:
        """See :meth:`ClipSet.frame_fingerprint`."""
        return self.whole.frame_fingerprint(self.indices[clip], frame)

    def stored(self, index: int) -> bytes | None:
        """See :meth:`ImageSet.stored`."""
        return self.whole.stored(self._index(index))

    def problems(self, index: int) -> list:
        """See :meth:`ImageSet.problems`."""
        return self.whole.problems(self._index(index))

    def _index(self, index: int) -> int:
        clip, frame = self.place(index)
        whole = self.indices[clip]
        return self.whole._starts[whole] + self.whole.clips[whole].annotated.index(frame)


def split_clips(clips: ClipSet, assigned: Sequence[Split | None], where: str) -> dict[Split, ImageSet]:
    """Return the clips of each split that has any.

    Args:
        clips: The clips.
        assigned: Per clip, its split; None for a clip that is left out.
        where: Name of the data in messages.
    """
    splits: dict[Split, ImageSet] = {}
    for split in SPLITS:
        if rows := [row for row, found in enumerate(assigned) if found == split]:
            splits[split] = ClipSubset(clips, rows)
    return complete_splits(splits, where)
