"""Videos as SA-V has them: an mp4 file with a json of masks beside it (Ravi et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import UInt8
from torch import Tensor

from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.coco.outlines import Outlines
from sam_train.data.sources.coco.reading import pack_outlines
from sam_train.data.sources.file_identity import file_fingerprint, file_identity
from sam_train.data.sources.safe_walk import walk_files
from sam_train.data.sources.splits import assign_splits
from sam_train.data.sources.video.clips import Clip, split_clips
from sam_train.data.sources.video.drawn import DrawnClips
from sam_train.data.sources.video.video_file import SUFFIXES, VideoFile
from sam_train.errors import FileError, InputError, Problem

_ANNOTATIONS = ("manual", "auto")
_KEPT = 4  # videos and jsons that a process keeps open


@dataclass(frozen=True)
class SavSource(DataSource):
    """Videos with masks in json files: ``sav_000001.mp4`` and ``sav_000001_manual.json``, in any folders.

    Masks are known on every fourth frame, as SA-V annotates 6 of 24 frames a second; of other videos, at whatever rate
    the numbers of frames and of annotated frames say.

    Attributes:
        root: The folder that holds the files; nothing outside it is read.
        annotations: Which json: ``manual`` or ``auto``.
        split: Shares of the clips for train, val and test.
        split_seed: Another seed gives another split.
        check: Whether all annotated frames are read and checked before training.
    """

    root: str
    annotations: str = "manual"
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    check: bool = True

    default_steps: ClassVar[int] = 100
    default_objects: ClassVar[int] = 3

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have clips, each a :class:`ClipSet`; all jsons and the videos' indices are read.

        Raises:
            InputError: If there is no video with a json, or one of them is damaged.
        """
        if self.annotations not in _ANNOTATIONS:
            raise InputError(f"data.annotations={self.annotations}: expected {' or '.join(_ANNOTATIONS)}")
        root = Path(str(self.root)).expanduser().absolute()
        if not root.is_dir():
            raise InputError(f"data.root={root}: no such folder; it should hold mp4 files and their jsons")
        pairs = _pairs(root, self.annotations)
        if not pairs:
            raise InputError(f"{root}: no video has a json *_{self.annotations}.json beside it")
        everything = SavClips(root, pairs)
        assigned = assign_splits([clip.name for clip in everything.clips], self.split, self.split_seed)
        return split_clips(everything, assigned, str(root))


def _pairs(root: Path, annotations: str) -> list[tuple[str, str]]:
    """Return the names of the videos and of their jsons below the root."""
    names = set(walk_files(root))
    stems = ((name, name.rpartition(".")[0]) for name in sorted(names) if name.lower().endswith(SUFFIXES))
    return [(name, json) for name, stem in stems if (json := f"{stem}_{annotations}.json") in names]


class SavClips(DrawnClips):
    """Videos and their masks."""

    def __init__(self, root: Path, pairs: Sequence[tuple[str, str]]) -> None:
        self.videos = tuple(root / video for video, _ in pairs)
        self.jsons = tuple(root / json for _, json in pairs)
        super().__init__([self._clip(place, name) for place, (name, _) in enumerate(pairs)])

    def _clip(self, place: int, name: str) -> Clip:
        number, known = len(_video(self.videos[place])), len(_masklets(self.jsons[place]))
        step = max(round(number / known), 1)
        if step * (known - 1) >= number:
            found = f"{known} annotated frames, but {self.videos[place].name} has {number}"
            raise FileError(Problem("frames missing", self.jsons[place], found, "download both anew"))
        return Clip(name.rpartition(".")[0], tuple(f"{n:05d}" for n in range(number)), range(0, step * known, step))

    def picture(self, clip: int, frame: int) -> UInt8[Tensor, "3 h w"]:
        """See :meth:`DrawnClips.picture`."""
        return _video(self.videos[clip]).read(frame)

    def objects(self, clip: int, frame: int) -> tuple[Outlines, dict[int, int]]:
        """See :meth:`DrawnClips.objects`: a masklet's number from 1."""
        masklets = _masklets(self.jsons[clip])
        found = masklets[self.clips[clip].annotated.index(frame)]
        there = {place + 1: one for place, one in enumerate(found) if one}
        outlines = pack_outlines([*there.values()], self.jsons[clip])
        return outlines, {value: row for row, value in enumerate(there)}

    def annotations(self, clip: int) -> Path:
        """See :meth:`DrawnClips.annotations`."""
        return self.jsons[clip]

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: the video's content, and the frame."""
        clip, frame = self.place(index)
        return f"{file_identity(self.videos[clip])} {frame}"

    def frame_fingerprint(self, clip: int, frame: int) -> str:
        """See :meth:`ClipSet.frame_fingerprint`."""
        return f"{file_fingerprint(self.videos[clip])} {frame}"

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`: also of a video whose frames do not come at a constant rate."""
        clip, frame = self.place(index)
        try:
            if frame == 0:
                _video(self.videos[clip]).require_constant_rate()
        except FileError as error:
            return [error.problem]
        return super().problems(index)


@lru_cache(maxsize=_KEPT)
def _video(path: Path) -> VideoFile:
    return VideoFile(path)


@lru_cache(maxsize=_KEPT)
def _masklets(path: Path) -> Sequence[Sequence[Any]]:
    """Return the run lengths of each object on each annotated frame.

    Raises:
        FileError: If the json is damaged or has none.
    """
    import orjson

    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FileError(Problem("unreadable json", path, str(error), "download it anew")) from error
    found = content.get("masklet") if isinstance(content, Mapping) else None
    if not isinstance(found, list) or not found or not all(isinstance(frame, list) for frame in found):
        what = "has no list of frames under masklet"
        raise FileError(Problem("no masks of SA-V", path, what, "give the json that belongs to the video"))
    return found
