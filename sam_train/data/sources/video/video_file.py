"""Frames of a video file by their number: sought, not read through."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sam_train.errors import FileError, InputError, Problem

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
_NEAR = 8  # frames ahead that are decoded on the way rather than sought; key frames are a few dozen apart
_UNEVEN = 1.5  # of the usual time between frames, from which on one is missing or the rate varies


class VideoFile:
    """A video. A copy in another process opens the file anew.

    Opening it reads the index of its packets and decodes nothing. A frame is decoded from the key frame before it, or
    from the frame that was read last where that lies between.

    Args:
        path: The file.

    Raises:
        FileError: If it is no video or is cut short.
        InputError: If PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._times = self._read_times()
        self._close()

    def _close(self) -> None:
        self._container: Any = None
        self._frames: Any = None  # of the container, from where it is
        self._next = -1  # the number of the first of them
        self._lock = Lock()  # files are checked by several threads

    def __len__(self) -> int:
        return len(self._times)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_times": self._times}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._close()

    def read(self, frame: int) -> UInt8[Tensor, "3 h w"]:
        """Return a frame, upright as the file says.

        Raises:
            FileError: If it cannot be decoded; names it.
        """
        from av.error import FFmpegError

        try:
            with self._lock:
                found = self._decode(frame)
        except FFmpegError as error:
            raise self._unreadable(frame, str(error)) from error
        if found is None:
            raise self._unreadable(frame, "it is not where the file's index says")
        return _upright(found)

    def _decode(self, frame: int) -> Any:
        wanted = int(self._times[frame])
        if self._container is None or not self._next <= frame <= self._next + _NEAR:
            self._seek(wanted)
        self._next = frame + 1
        later = (found for found in self._frames if found.pts is not None and found.pts >= wanted)
        found = next(later, None)
        return found if found is not None and found.pts == wanted else None

    def require_constant_rate(self) -> None:
        """Refuse a video in which a frame is missing or whose rate varies: annotations by number would be off.

        Raises:
            FileError: Names the first frame that comes late.
        """
        steps = np.diff(self._times)
        late = np.flatnonzero(steps > _UNEVEN * np.median(steps)) if len(steps) else steps
        if len(late):
            found = f"frame {late[0] + 1} comes {steps[late[0]] / np.median(steps):.1f} times as late as others do"
            remedy = "convert it to a constant rate and annotate that"
            raise FileError(Problem("variable frame rate", self.path, found, remedy))

    def _read_times(self) -> Int[np.ndarray, "T"]:
        """Return when each frame is shown, in the stream's unit, in order."""
        try:
            import av
            from av.error import FFmpegError
        except ImportError as error:
            raise InputError(
                f"{self.path}: reading videos needs the extra video: pip install 'sam-train[video]'"
            ) from error
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise self._unreadable(None, "it has no picture")
                stream = container.streams.video[0]
                said = stream.frames
                packets = [packet for packet in container.demux(stream) if packet.size]
                times = [packet.pts for packet in packets if packet.pts is not None and not packet.is_corrupt]
        except FFmpegError as error:
            raise self._unreadable(None, str(error)) from error
        if not times or len(times) < len(packets) or len(times) < said:
            raise self._unreadable(len(times), f"the file is cut short: {max(said, len(packets))} frames were written")
        return np.sort(np.array(times, np.int64))

    def _seek(self, time: int) -> None:
        import av

        if self._container is None:
            self._container = av.open(str(self.path))
            self._container.streams.video[0].thread_type = "AUTO"
        stream = self._container.streams.video[0]
        self._container.seek(time, stream=stream, backward=True)
        self._frames = self._container.decode(stream)

    def _unreadable(self, frame: int | None, reason: str) -> FileError:
        where = "" if frame is None else f"frame {frame}: "
        return FileError(Problem("unreadable video", self.path, f"{where}{reason}", "convert or download it anew"))


def _upright(frame: Any) -> UInt8[Tensor, "3 h w"]:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(getattr(frame, "rotation", 0) / 90))
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
