"""Videos in COCO's format, as YouTube-VIS, OVIS and export tools write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.coco.outlines import Outlines
from sam_train.data.sources.coco.reading import pack_outlines
from sam_train.data.sources.file_identity import file_fingerprint, file_identity
from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.safe_walk import inside
from sam_train.data.sources.splits import assign_splits
from sam_train.data.sources.video.clips import Clip, split_clips
from sam_train.data.sources.video.drawn import DrawnClips
from sam_train.errors import FileError, InputError, Problem

_EXPORT = "export it anew as YouTube-VIS"


@dataclass(frozen=True)
class CocoVideoSource(DataSource):
    """A json with ``videos``, ``annotations`` (one for each object, ``segmentations`` by frame) and ``categories``.

    Attributes:
        root: The folder that holds all files; nothing outside it is read.
        annotations: The json below ``root``.
        frames: Folder below ``root`` that the videos' ``file_names`` are in.
        split: Shares of the clips for train, val and test.
        split_seed: Another seed gives another split.
        check: Whether all frames are read and checked before training.
    """

    root: str
    annotations: str = "instances.json"
    frames: str = "JPEGImages"
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    check: bool = True

    default_steps: ClassVar[int] = 100
    default_objects: ClassVar[int] = 3

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have clips, each a :class:`ClipSet`; frames are not opened.

        Raises:
            InputError: If the json is damaged, or a frame lies outside ``root``.
        """
        root = Path(str(self.root)).expanduser().absolute()
        path = inside(root, self.annotations, "data.annotations")
        if not path.is_file():
            there = ", ".join(sorted(one.name for one in root.glob("*.json"))) or "none"
            raise InputError(f"data.annotations={self.annotations}: no such file; jsons in {root}: {there}")
        everything = CocoClips(path, inside(root, self.frames, "data.frames"))
        assigned = assign_splits([clip.name for clip in everything.clips], self.split, self.split_seed)
        return split_clips(everything, assigned, str(root))


class CocoClips(DrawnClips):
    """Videos of a json that have annotations; crowds are left out."""

    def __init__(self, path: Path, frames: Path) -> None:
        self.path = path
        content = _load(path)
        names = {one["id"]: str(one["name"]) for one in content.get("categories", ())}
        videos = {video["id"]: video for video in content["videos"]}
        tracks: dict[Any, list[Mapping[str, Any]]] = {}
        for number, track in enumerate(content["annotations"]):
            video = videos.get(track.get("video_id"))
            segments = track.get("segmentations")
            if video is None or not isinstance(segments, list) or len(segments) != len(video["file_names"]):
                found = f"annotation {track.get('id', number)}: its segmentations are not one for each frame of a video"
                raise FileError(Problem("annotation without video", path, found, _EXPORT))
            if not track.get("iscrowd"):
                tracks.setdefault(video["id"], []).append(track)
        kept = [video for identifier, video in videos.items() if identifier in tracks]
        if not kept:
            raise InputError(f"{path}: none of its {len(videos)} videos has an annotation")
        self.categories = tuple(dict.fromkeys(names.values()))
        self.files = tuple(tuple(inside(frames, str(name), "file_names") for name in one["file_names"]) for one in kept)
        of_videos = [tracks[video["id"]] for video in kept]
        self.kinds = tuple(tuple(names.get(one.get("category_id"), "") for one in some) for some in of_videos)
        everything = [one for some in of_videos for track in some for one in track["segmentations"]]
        self.outlines = pack_outlines([[] if one is None else one for one in everything], path)
        self.is_there = np.array([bool(one) for one in everything])
        sizes = [len(files) * len(kinds) for files, kinds in zip(self.files, self.kinds, strict=True)]
        self.start = np.cumsum([0, *sizes])
        super().__init__([_clip(video, files) for video, files in zip(kept, self.files, strict=True)])

    def picture(self, clip: int, frame: int) -> UInt8[Tensor, "3 h w"]:
        """See :meth:`DrawnClips.picture`."""
        return read_image(self.files[clip][frame])

    def objects(self, clip: int, frame: int) -> tuple[Outlines, dict[int, int]]:
        """See :meth:`DrawnClips.objects`: an annotation's place among those of its video, from 1."""
        length = len(self.files[clip])
        rows = {value: int(self.start[clip]) + (value - 1) * length + frame for value in self._values(clip)}
        return self.outlines, {value: row for value, row in rows.items() if self.is_there[row]}

    def _values(self, clip: int) -> range:
        return range(1, len(self.kinds[clip]) + 1)

    def category(self, clip: int, value: int) -> str:
        """See :meth:`DrawnClips.category`."""
        return self.kinds[clip][value - 1]

    def annotations(self, clip: int) -> Path:
        """See :meth:`DrawnClips.annotations`."""
        return self.path

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`."""
        clip, frame = self.place(index)
        return file_identity(self.files[clip][frame])

    def frame_fingerprint(self, clip: int, frame: int) -> str:
        """See :meth:`ClipSet.frame_fingerprint`."""
        return file_fingerprint(self.files[clip][frame])


def _clip(video: Mapping[str, Any], files: Sequence[Path]) -> Clip:
    folder = str(video["file_names"][0]).rpartition("/")[0]
    return Clip(folder or str(video["id"]), tuple(path.stem for path in files), range(len(files)))


def _load(path: Path) -> Mapping[str, Any]:
    import orjson

    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FileError(Problem("unreadable json", path, str(error), _EXPORT)) from error
    keys = ("videos", "annotations")
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), list) for key in keys):
        raise FileError(Problem("no videos of COCO", path, "lacks the lists videos and annotations", _EXPORT))
    for video in content["videos"]:
        names = video.get("file_names") if isinstance(video, Mapping) else None
        if not isinstance(names, list) or not names or "id" not in video:
            raise FileError(Problem("no videos of COCO", path, "a video lacks its id or file_names", _EXPORT))
    return content
