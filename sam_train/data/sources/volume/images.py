"""Samples from slices of volumes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Integer, Shaped, UInt8
from torch import Tensor

from sam_train.data.sources.base import Choose, ImageSet, VolumeSlice, all_objects
from sam_train.data.sources.file_identity import file_fingerprint, file_identity
from sam_train.data.sources.given import boxes_of, to_prompts
from sam_train.data.sources.mask_pieces import count_numbers, number_pieces
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.data.sources.prompt_files import GivenObject
from sam_train.data.sources.video.slices import SliceClips
from sam_train.data.sources.volume.case_index import CaseIndex
from sam_train.data.sources.volume.cases import Case
from sam_train.data.sources.volume.opening import OpenVolume, OpenVolumes
from sam_train.errors import FileError, InputError, Problem
from sam_train.structures import Prompts, Sample


@dataclass(frozen=True)
class VolumeImages(ImageSet):
    """Slices of one split.

    Attributes:
        ids: Per slice, its volume and its place there.
        volumes: All volumes of the source.
        case: Per slice, the index of its volume.
        place: Per slice, its index in the volume along the axis.
        groups: Per volume, the name of its group.
        by_component: Whether every connected piece of one number in a slice is an object.
        faults: Why a volume cannot be used; it has one slice, which says so.
        categories: Names of all labels.
        index: What is known from an earlier start.
    """

    ids: Sequence[str]
    volumes: OpenVolumes
    case: Int[np.ndarray, "n"]
    place: Int[np.ndarray, "n"]
    groups: Sequence[str]
    by_component: bool
    faults: Mapping[int, Problem]
    categories: Sequence[str] = ()
    index: CaseIndex = field(default_factory=CaseIndex)

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`. The volume is decoded unless it is open.

        Raises:
            FileError: If a file cannot be read, or labels and volume do not fit each other.
        """
        case, place = int(self.case[index]), int(self.place[index])
        self._require(case)
        volume = self.volumes[case]
        planes, objects = self._objects(volume.planes[:, place], volume.names)
        chosen = choose(torch.tensor([one.area / planes[0].size for one in objects], dtype=torch.float32)).tolist()
        kept = [objects[one] for one in chosen]
        image = self._image(volume.image, place) if with_image else torch.empty(0, *planes.shape[1:], dtype=torch.uint8)
        sample = Sample(
            id=self.ids[index],
            image=image,
            labels=torch.from_numpy(planes),
            plane=torch.tensor([one.plane for one in kept], dtype=torch.long),
            value=torch.tensor([one.value for one in kept], dtype=torch.long),
            category=tuple(one.category for one in kept),
            group=self.group(index),
            spacing=None if volume.spacing is None else volume.spacing[1:],
        )
        return replace(sample, prompts=self._given(sample, volume, place)) if volume.boxes else sample

    def _given(self, sample: Sample, volume: OpenVolume, place: int) -> Prompts | None:
        """Return the boxes that came with a volume: of each label, or else those that overlap objects most."""
        found = None if self.by_component else volume.given(place, sample.category or ())
        if found is None:
            there = [box for box, first, last in volume.boxes if first <= place <= last]
            found = boxes_of(sample, there, ends_inside=True)
        return to_prompts([one or GivenObject() for one in found])

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`: the patient, or the volume where nothing says the patient."""
        return self.groups[int(self.case[index])]

    def slice_of(self, index: int) -> VolumeSlice | None:
        """See :meth:`ImageSet.slice_of`; None of a single slice. The volume is decoded unless it is open."""
        case = int(self.case[index])
        if case in self.faults:
            return None
        volume = self.volumes[case]
        if len(volume.image) < 2:
            return None
        return VolumeSlice(self.volumes.cases[case].id, int(self.place[index]), volume.spacing)

    def as_clips(self) -> SliceClips:
        """See :meth:`ImageSet.as_clips`; slices without labels between those that have some are frames, too.

        Volumes that cannot be used are left out.

        Raises:
            FileError: If no volume can be used.
            InputError: If objects are pieces of slices, of which nothing says which are one object.
        """
        if self.by_component:
            raise InputError(
                "data.objects=components: nothing says which pieces of several slices are one object, which "
                "task=video needs; use data.objects=labels"
            )
        every = np.unique(self.case)
        cases = np.array([case for case in every if case not in self.faults], every.dtype)
        if not len(cases):
            self._require(int(every[0]))
        labeled = [np.sort(self.place[self.case == case]) for case in cases]
        places = [np.arange(some[0], some[-1] + 1) for some in labeled]
        names = [self.volumes.cases[case].id for case in cases]
        axis = self.volumes.reading.axis
        ids = (f"{name}/{axis}_{place:04}" for name, some in zip(names, places, strict=True) for place in some)
        lengths = [len(some) for some in places]
        case, place = np.repeat(cases, lengths), np.concatenate(places)
        images = replace(self, ids=PackedTexts(ids), case=case, place=place)
        ends = np.cumsum(lengths).tolist()
        rows = [range(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        middles = [int(some[len(some) // 2] - some[0]) for some in labeled]
        return SliceClips(images, list(zip(names, rows, strict=True)), middles)

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`: files, and the settings that pixels depend on."""
        case = self.volumes.cases[int(self.case[index])]
        reading = self.volumes.reading
        shown = (reading.axis, reading.tones, reading.ct_window, reading.neighbors)
        return f"{_fingerprint(case)} {self.place[index]} {shown}"

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: content of the files, and the slice."""
        case = self.volumes.cases[int(self.case[index])]
        axis = self.volumes.reading.axis
        return f"{_identity(case)} {axis} {self.place[index]}"

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`; a volume is read with its first slice, unless it is known to be right."""
        case = int(self.case[index])
        if index > 0 and self.case[index - 1] == case:
            return []
        try:
            self._require(case)
            if not self.index.read(self.volumes.cases[case]).get("is_right"):
                self.volumes[case]
                self.index.add(self.volumes.cases[case], {"is_right": True})
        except FileError as error:
            return [error.problem]
        return []

    def places(self) -> Sequence[int]:
        """See :class:`StoredNumbers`: a slice of each volume."""
        return np.unique(self.case, return_index=True)[1].tolist()

    def numbers(self, index: int) -> list[Shaped[np.ndarray, "n"]]:
        """See :class:`StoredNumbers`: of the slice's whole volume."""
        case = int(self.case[index])
        self._require(case)
        return self.volumes.numbers(self.volumes.cases[case])

    def shuffled(self, generator: torch.Generator) -> Int[Tensor, "n"]:
        """See :meth:`ImageSet.shuffled`: as many volumes at once as stay open, their slices mixed, then the next."""
        cases = np.unique(self.case)
        order = cases[torch.randperm(len(cases), generator=generator).numpy()]
        turn = np.empty(int(cases.max()) + 1, np.int64)
        turn[order] = np.arange(len(order)) // self.volumes.capacity
        mixed = torch.randperm(len(self), generator=generator)
        return mixed[torch.from_numpy(turn[self.case])[mixed].argsort(stable=True)]

    def _require(self, case: int) -> None:
        if problem := self.faults.get(case):
            raise FileError(problem)

    def _image(self, slices: np.ndarray, place: int) -> UInt8[Tensor, "3 h w"]:
        if slices.ndim == 4:
            return torch.from_numpy(slices[place]).permute(2, 0, 1).contiguous()
        around = (-1, 0, 1) if self.volumes.reading.neighbors else (0, 0, 0)
        places = np.clip(place + np.array(around), 0, len(slices) - 1)
        return torch.from_numpy(slices[places])

    def _objects(
        self, slices: Integer[np.ndarray, "L h w"], names: Mapping[int, str]
    ) -> tuple[Int[np.ndarray, "L h w"], list[_Object]]:
        """Return the label planes of a slice and its objects; no two have the same value."""
        planes: list[np.ndarray] = []
        objects: list[_Object] = []
        for number, labels in enumerate(slices):
            plane = labels.astype(np.int32)
            if self.by_component:
                last = max((one.value for one in objects), default=0)
                plane = np.where(plane > 0, number_pieces(plane) + last, 0).astype(np.int32)
            planes.append(plane)
            _, values, areas = count_numbers(plane)
            for value, area in zip(values.tolist(), areas.tolist(), strict=True):
                if value:
                    label = int(labels.flat[(plane == value).argmax()])
                    objects.append(_Object(number, value, area, names[label]))
        return np.stack(planes), objects


class _Object(NamedTuple):
    plane: int
    value: int
    area: int
    category: str


def _fingerprint(case: Case) -> str:
    return _digest(map(file_fingerprint, case.image))


@lru_cache(maxsize=4096)
def _identity(case: Case) -> str:
    return _digest(map(file_identity, case.image))


def _digest(texts: Iterable[str]) -> str:
    return hashlib.blake2b(" ".join(texts).encode(), digest_size=16).hexdigest()
