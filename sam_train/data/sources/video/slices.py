"""Volumes as clips: their slices are the frames."""

from __future__ import annotations

from collections.abc import Sequence

from sam_train.data.sources.base import ImageSet
from sam_train.data.sources.video.clips import Clip, ClipSet
from sam_train.errors import Problem
from sam_train.structures import Sample


class SliceClips(ClipSet):
    """Clips whose frames are images of another set: slices in order, the labels of all of them known.

    Args:
        images: The slices.
        volumes: Name of each volume, and the indices of its slices, in order.
        middles: Per volume, the place among them that a part of it is around.
    """

    def __init__(self, images: ImageSet, volumes: Sequence[tuple[str, Sequence[int]]], middles: Sequence[int]) -> None:
        self.images = images
        self.rows = tuple(tuple(rows) for _, rows in volumes)
        self.categories = images.categories
        super().__init__(
            [
                Clip(name, tuple(images.ids[row].rpartition("/")[2] for row in rows), range(len(rows)), middle)
                for (name, rows), middle in zip(volumes, middles, strict=True)
            ]
        )

    def read_frame(self, clip: int, frame: int, with_image: bool = True) -> Sample:
        """See :meth:`ClipSet.read_frame`."""
        return self.images.read(self.rows[clip][frame], with_image=with_image)

    def spacing(self, clip: int) -> tuple[float, float, float] | None:
        """See :meth:`ClipSet.spacing`."""
        place = self.images.slice_of(self.rows[clip][0])
        return None if place is None else place.spacing

    def group_of(self, clip: int) -> str:
        """See :meth:`ClipSet.group_of`: the patient."""
        return self.images.group(self.rows[clip][0])

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`."""
        return self.images.identity(self._row(index))

    def frame_fingerprint(self, clip: int, frame: int) -> str:
        """See :meth:`ClipSet.frame_fingerprint`."""
        return self.images.fingerprint(self.rows[clip][frame])

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`."""
        return self.images.problems(self._row(index))

    def _row(self, index: int) -> int:
        clip, frame = self.place(index)
        return self.rows[clip][frame]
