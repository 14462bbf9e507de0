"""Variants of the frames of clips that a model sees."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.views import PLAIN, PLAIN_NAME, ViewIndex, Views, view_name
from sam_train.data.sources.video.clips import ClipSet
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Batch, Sample


class ClipViews(Views):
    """Frames of clips, annotated or not, augmented or not: all frames of a clip alike.

    A frame as it is has the name it has among images, so that its features serve images and clips.

    Args:
        clips: The clips.
        preprocessing: Of the model.
        augmentation: Random changes; None for none.
        seed: Seed of everything random.
        number: Number of views of a clip, of which the first is plain; None for a new view in each epoch.
        spans: Per clip, the frames that are seen; None for all of all clips.
    """

    images: ClipSet

    def __init__(
        self,
        clips: ClipSet,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        number: int | None = 1,
        spans: Sequence[range] | None = None,
    ) -> None:
        super().__init__(clips, preprocessing, augmentation, seed, number)
        self.spans = [range(len(clip.frames)) for clip in clips.clips] if spans is None else spans
        self.starts = (0, *accumulate(len(span) for span in self.spans))

    def __len__(self) -> int:
        return self.starts[-1]

    def vary_frame(self, clip: int, sample: Sample, view: int) -> Sample:
        """Return a frame of a clip as a view shows it, at the size of the un-padded part of the input."""
        return self.vary(sample, view, self.images.clips[clip].name)

    def frame_name(self, clip: int, frame: int, view: int) -> str:
        """Return everything that determines a frame's pixels in a view, as :meth:`name` does."""
        return frame_name(self.images, clip, frame, self.variant(view))

    def variant(self, view: int) -> str:
        """See :meth:`Views.variant`; an augmented frame of a clip is another picture than the same frame by itself."""
        return super().variant(view) + ("" if view == PLAIN else ", of a clip")

    def name(self, index: int, view: int) -> str:
        """See :meth:`Views.name`."""
        return self.frame_name(*self._place(index), view)

    def __getitem__(self, key: ViewIndex) -> Batch:
        view, index = key
        clip, frame = self._place(index)
        sample = self.images.read_frame(clip, frame)
        nothing = torch.zeros(0, dtype=torch.long)
        bare = replace(sample, plane=nothing, value=nothing, category=None, crowd=None, prompts=None)
        return to_batch(self.vary_frame(clip, bare, view), self.preprocessing, sample.size)

    def _place(self, index: int) -> tuple[int, int]:
        """Return the clip and the frame of an index."""
        clip = bisect_right(self.starts, index) - 1
        return clip, self.spans[clip][index - self.starts[clip]]


def frame_name(clips: ClipSet, clip: int, frame: int, variant: str = PLAIN_NAME) -> str:
    """Return everything that determines the pixels of a frame that is seen in a variant, except for preprocessing."""
    content = clips.clips[clip]
    return view_name(f"{content.name}/{content.frames[frame]}", clips.frame_fingerprint(clip, frame), variant)
