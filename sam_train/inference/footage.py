"""Videos, folders of frames and volumes as frames that may be read in any order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from sam_train.data.sources.decoding import SUFFIXES
from sam_train.data.sources.image_files import PLAIN, read_image
from sam_train.data.sources.tones import Tones
from sam_train.data.sources.video.video_file import SUFFIXES as VIDEOS
from sam_train.data.sources.video.video_file import VideoFile
from sam_train.inference import volumes
from sam_train.inference.volumes import View, Volume


@dataclass(frozen=True)
class Footage:
    """Frames in order.

    Attributes:
        read: Returns a frame by its index.
        num_frames: Their number.
        volume: Whose slices they are, if they are any.
    """

    read: Callable[[int], UInt8[Tensor, "3 h w"]]
    num_frames: int
    volume: Volume | None = None

    @property
    def start(self) -> int:
        """Return the frame on which objects are looked for unless prompts say one: a volume's middle, or the first."""
        return 0 if self.volume is None else self.num_frames // 2


def open_footage(path: Path, view: View | None = None, tones: Tones = PLAIN) -> Footage:
    """Open a video, a volume, or a folder of frames.

    Raises:
        FileError: If it is damaged or none of them.
        InputError: If a library is not installed.
    """
    if path.name.lower().endswith(VIDEOS):
        video = VideoFile(path)
        return Footage(video.read, len(video))
    if path.is_dir() and (frames := _frames(path)):
        return Footage(lambda index: read_image(frames[index], tones=tones), len(frames))
    volume = Volume(path, view or View())
    return Footage(volume.slice, len(volume), volume)


def is_footage(path: Path) -> bool:
    """Tell whether a path is a video, a volume or a folder that holds frames."""
    return path.name.lower().endswith(VIDEOS) or is_volume(path) or (path.is_dir() and bool(_frames(path)))


def is_volume(path: Path) -> bool:
    """Tell whether a path is a file of a volume, by its name."""
    return path.name.lower().endswith(volumes.SUFFIXES)


def _frames(folder: Path) -> list[Path]:
    """Return the images in a folder, in the order of the numbers in their names."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    return sorted(found, key=lambda path: ([int(number) for number in re.findall(r"\d+", path.stem)], path.name))
