"""Clips in folders as DAVIS, YouTube-VOS and MOSE have them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Int

from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.file_identity import file_content, file_fingerprint
from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.mask_files import read_numbers
from sam_train.data.sources.splits import SPLITS, assign_splits
from sam_train.data.sources.video.clips import Clip, ClipSet, split_clips
from sam_train.data.sources.video.davis_files import ClipFiles, find_clips
from sam_train.errors import FileError, InputError, Problem
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample

_SAME_PLACE = 0.8  # IoU from which two objects of neighboring annotated frames are one object with two numbers


@dataclass(frozen=True)
class DavisSource(DataSource):
    """Frames and label images, a folder for each clip: ``JPEGImages/<clip>/`` and ``Annotations/<clip>/``.

    There may be a folder of the resolution in between, as in DAVIS (``480p``). A number of a label image is an object,
    the same on all frames of the clip; 0 is background. Instead, each object may have a folder of its own masks, called
    by its number (``Annotations/<clip>/000/``), as in SA-V's frames. Frames without a mask are not annotated.

    Attributes:
        root: The folder that holds both.
        images: Folder of the frames below ``root``.
        masks: Folder of the label images below ``root``.
        resolution: Folder between these and the clips; None for the only one, or ``480p``.
        image_set: Folder of ``ImageSets`` whose ``train.txt`` and ``val.txt`` name the clips of the splits, such as
            2017; None to split by shares.
        split: Shares of the clips for train, val and test, where there is no ``image_set``.
        split_seed: Another seed gives another split by shares.
        check: Whether all frames are read and checked before training.
    """

    root: str
    images: str = "JPEGImages"
    masks: str = "Annotations"
    resolution: str | None = None
    image_set: str | None = None
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    check: bool = True

    default_steps: ClassVar[int] = 100
    default_objects: ClassVar[int] = 3

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have clips, each a :class:`ClipSet`; files are listed, not opened.

        Raises:
            InputError: If folders and settings do not fit each other, or a clip lacks frames in its middle.
        """
        root = Path(str(self.root)).expanduser().absolute()
        clips = find_clips(root, str(self.images), str(self.masks), self.resolution)
        everything = FolderClips(clips)
        if self.image_set is None:
            assigned = assign_splits([clip.name for clip in clips], self.split, self.split_seed)
        else:
            assigned = _listed(root / "ImageSets" / str(self.image_set), clips)
        return split_clips(everything, assigned, str(root))


def _listed(folder: Path, clips: Sequence[ClipFiles]) -> list[Split | None]:
    """Return the split of each clip by the lists in a folder of ``ImageSets``; None for clips in no list."""
    found: dict[str, Split] = {}
    names = {clip.name for clip in clips}
    for split in SPLITS:
        path = folder / f"{split}.txt"
        lines = path.read_text("utf-8").split() if path.is_file() else []
        for name in lines:
            if name not in names:
                raise InputError(f"{path}: names the clip {name}, of which there are no frames; remove it, or add them")
            if found.setdefault(name, split) != split:
                raise InputError(f"{path}: names {name}, which {found[name]}.txt names, too; leave it in one of them")
    if not found:
        there = ", ".join(sorted(path.name for path in folder.parent.glob("*"))) or "no folder at all"
        raise InputError(f"data.image_set={folder.name}: no train.txt or val.txt in {folder}; there are {there}")
    return [found.get(clip.name) for clip in clips]


class FolderClips(ClipSet):
    """Clips whose frames and label images are files."""

    def __init__(self, files: Sequence[ClipFiles]) -> None:
        self.files = tuple(files)
        super().__init__([Clip(clip.name, clip.frames, clip.annotated) for clip in files])

    def read_frame(self, clip: int, frame: int, with_image: bool = True) -> Sample:
        """See :meth:`ClipSet.read_frame`."""
        files = self.files[clip]
        path = files.images[frame]
        image = read_image(path)
        size = image.shape[1:]
        labels, numbers = torch.zeros(1, *size, dtype=torch.int32), torch.zeros(0, dtype=torch.long)
        packed = labels, numbers, numbers
        name = files.frames[frame]
        if name in files.objects:
            paths = files.objects[name].items()
            masks = ((value, self._read(files, frame, path, image)[0] > 0) for value, path in paths)
            packed = pack_masks((one for one in masks if one[1].any()), (size[0], size[1]))
        elif name in files.masks:
            labels = self._read(files, frame, files.masks[name], image)
            numbers = labels.unique().long()
            numbers = numbers[numbers > 0]
            packed = labels, torch.zeros_like(numbers), numbers
        return Sample(f"{files.name}/{name}", image if with_image else image[:0], *packed, group=files.name)

    def _read(self, files: ClipFiles, frame: int, path: Path, image: torch.Tensor) -> Int[torch.Tensor, "1 h w"]:
        labels = torch.from_numpy(read_numbers(path, is_region=False).pixels)[None]
        if labels.shape[1:] != image.shape[1:]:
            where = f"clip {files.name}, frame {files.frames[frame]}"
            found = f"{where}: the mask has {_size(labels)} pixels, the frame {_size(image)}"
            raise FileError(Problem("sizes differ", path, found, "save the mask at the size of its frame"))
        return labels

    def stored(self, index: int) -> bytes:
        """See :meth:`ImageSet.stored`."""
        clip, frame = self.place(index)
        return file_content(self.files[clip].images[frame])

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: a hash of the frame's file."""
        clip, frame = self.place(index)
        content = self.files[clip].images[frame].read_bytes()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def frame_fingerprint(self, clip: int, frame: int) -> str:
        """See :meth:`ClipSet.frame_fingerprint`."""
        return file_fingerprint(self.files[clip].images[frame])

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`: also frames of another size than the first, and objects that change number."""
        clip, frame = self.place(index)
        files, annotated = self.files[clip], list(self.clips[clip].annotated)
        position = annotated.index(frame)
        following = [*annotated[position + 1 :], len(files.frames)][0]
        try:
            now = self.read_frame(clip, frame)
            others = [self.read_frame(clip, other) for other in range(frame + 1, following)]
            before = self.read_frame(clip, annotated[position - 1] if position else 0)
        except FileError as error:
            return [error.problem]
        found = []
        for number, sample in enumerate((now, *others), start=frame):
            if sample.size != before.size:
                text = f"clip {files.name}, frame {files.frames[number]}: {_size(sample.labels)} pixels, and "
                text += f"{_size(before.labels)} on frames before"
                remedy = "give all frames of a clip one size"
                found.append(Problem("frames of several sizes", files.images[number], text, remedy))
        is_one_image = now.size == before.size and not files.objects
        for old, new in _renumbered(before, now) if is_one_image else ():
            text = f"clip {files.name}, frame {files.frames[frame]}: object {new} is where object {old} was on the "
            text += "annotated frame before"
            remedy = "give an object one number on all frames of a clip"
            found.append(Problem("object changes its number", files.masks[files.frames[frame]], text, remedy))
        return found


def _renumbered(before: Sample, now: Sample) -> list[tuple[int, int]]:
    """Return pairs of numbers that seem to be one object: one is gone, the other new, at the same place."""
    gone = set(before.value.tolist()) - set(now.value.tolist())
    new = set(now.value.tolist()) - set(before.value.tolist())
    pairs = []
    for old in sorted(gone):
        for number in sorted(new):
            one, other = before.labels[0] == old, now.labels[0] == number
            if (one & other).sum() > _SAME_PLACE * (one | other).sum():
                pairs.append((old, number))
    return pairs


def _size(pixels: torch.Tensor) -> str:
    return f"{pixels.shape[-1]} x {pixels.shape[-2]}"
