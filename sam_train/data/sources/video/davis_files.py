"""Which files are the frames and label images of which clip."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from sam_train.data.sources.decoding import SUFFIXES
from sam_train.errors import FileError, InputError, Problem

_USUAL = "480p"  # the resolution that DAVIS is scored at


@dataclass(frozen=True)
class ClipFiles:
    """The files of a clip.

    Attributes:
        name: Name of the clip's folder.
        frames: Names of the frames, in order.
        images: Their files.
        masks: By the frame's name, its label image.
        objects: Where each object has a folder of masks of its own, the frame's name to its files by the object's
            number; ``masks`` then holds the first of them.
    """

    name: str
    frames: tuple[str, ...]
    images: tuple[Path, ...]
    masks: Mapping[str, Path]
    objects: Mapping[str, Mapping[int, Path]] = field(default_factory=dict)

    @property
    def annotated(self) -> tuple[int, ...]:
        """Return the indices of the frames that have a label image."""
        return tuple(index for index, frame in enumerate(self.frames) if frame in self.masks)


def find_clips(root: Path, images: str, masks: str, resolution: str | None) -> list[ClipFiles]:
    """Return the clips that have a label image, by name.

    Raises:
        InputError: If folders are missing or lead out of ``root``, or a clip has a mask without its frame or lacks
            frames.
    """
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; it should hold {images}/ and {masks}/")
    image_root = _clip_root(root, images, "images", resolution)
    is_direct = image_root == root / images and resolution is None
    mask_root = _clip_root(root, masks, "masks", resolution, is_direct)
    clips = []
    for folder in sorted(path for path in image_root.iterdir() if path.is_dir() and path.name[0] != "."):
        frames, objects = _files(root, folder), _objects(root, mask_root / folder.name)
        first = {frame: next(iter(some.values())) for frame, some in objects.items()}
        found = first or _files(root, mask_root / folder.name)
        if not found:
            continue
        if not frames:
            raise InputError(f"{folder}: no frames in it; expected files of {', '.join(sorted(SUFFIXES))}")
        if loose := sorted(found.keys() - frames.keys()):
            problem = f"clip {folder.name}: a mask of the frame {loose[0]}, which is not there"
            raise FileError(
                Problem("frame missing", found[loose[0]], problem, f"add it to {folder}, or remove the mask")
            )
        _require_no_gap(folder, list(frames))
        clips.append(ClipFiles(folder.name, tuple(frames), tuple(frames.values()), found, objects))
    if not clips:
        raise InputError(f"{image_root}: no folder in it has a folder of the same name with masks in {mask_root}")
    return clips


def _clip_root(root: Path, name: str, field: str, resolution: str | None, is_direct: bool = False) -> Path:
    """Return the folder that holds the clips' folders; ``is_direct`` where nothing can be in between."""
    folder = root / name
    if not folder.resolve().is_relative_to(root.resolve()):
        raise InputError(f"data.{field}={name}: leads out of {root}; name a folder inside data.root")
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
        raise InputError(f"data.{field}: no folder {folder}; folders there: {there}. Name it with data.{field}=...")
    if resolution is not None:
        if not (folder / resolution).is_dir():
            raise InputError(f"data.resolution={resolution}: no folder {folder / resolution}")
        return folder / resolution
    if is_direct:
        return folder
    between = [path for path in folder.iterdir() if path.is_dir() and any(child.is_dir() for child in path.iterdir())]
    if len(between) > 1 and not (folder / _USUAL).is_dir():
        names = ", ".join(sorted(path.name for path in between))
        raise InputError(f"{folder} holds several resolutions: {names}; name one with data.resolution=...")
    if not between:
        return folder
    return folder / _USUAL if len(between) > 1 else between[0]


def _files(root: Path, folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by stem, in the order of the numbers in their names."""
    if not folder.is_dir():
        return {}
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if outside := [path for path in paths if not path.resolve().is_relative_to(root.resolve())]:
        raise InputError(f"{outside[0]}: a link that leads out of {root}; put the file itself there")
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: (_number(path.stem), path.stem)):
        if path.stem in found:
            raise InputError(f"{path}: {found[path.stem].name} has the same name; leave one of them")
        found[path.stem] = path
    return found


def _objects(root: Path, folder: Path) -> dict[str, dict[int, Path]]:
    """Return the masks in folders called by the number of an object, as SA-V has them, by frame; from 1 on."""
    found: dict[str, dict[int, Path]] = {}
    numbered = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()] if folder.is_dir() else []
    for path in sorted(numbered, key=lambda path: int(path.name)):
        for frame, file in _files(root, path).items():
            found.setdefault(frame, {})[int(path.name) + 1] = file
    return found


def _number(stem: str) -> int:
    """Return the last number in a name, by which frames are in order; -1 where there is none."""
    found = re.findall(r"\d+", stem)
    return int(found[-1]) if found else -1


def _require_no_gap(folder: Path, frames: Sequence[str]) -> None:
    """Refuse a clip that lacks frames in its middle: their numbers go up by the same step everywhere."""
    numbers = [_number(frame) for frame in frames]
    steps = [after - before for before, after in pairwise(numbers)]
    if not steps:
        return
    usual = Counter(steps).most_common(1)[0][0]
    for step, (before, after) in zip(steps, pairwise(frames), strict=True):
        if step != usual:
            found = f"clip {folder.name}: after frame {before} comes frame {after}, where others are {usual} apart"
            remedy = "add the frames in between, or number the frames anew if they are one after the other"
            raise FileError(Problem("frames missing", folder / after, found, remedy))
