"""Procedural clips with exact masks: objects of the world that move, hide one another, leave and come back."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int, UInt8

from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.video.clips import Clip, ClipSet
from sam_train.data.world import outlines
from sam_train.data.world.canvas import Canvas
from sam_train.data.world.draws import between, chance, count, log_between, pick
from sam_train.data.world.look import Look
from sam_train.data.world.objects import Kind, Pose
from sam_train.data.world.optics import camera
from sam_train.data.world.outlines import Outline
from sam_train.errors import InputError
from sam_train.structures import Sample

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_LEAST_AREA = 0.002  # share of the image that an object has on the first frame; below, it is scenery
_MOST_OBJECTS = 6
_SCENES_KEPT = 8


@dataclass(frozen=True)
class ToyVideoSource(DataSource):
    """Procedural clips: nothing to download, masks without error, an object's number the same on all frames.

    Attributes:
        num_train: Clips to train on.
        num_val: Clips to validate on.
        num_test: Clips to report on.
        num_frames: Frames of a clip.
        image_size: Side in pixels, from 64 to 1024.
        seed: Another seed gives another dataset.
        check: Accepted as by every source; generated clips need no check.
    """

    num_train: int
    num_val: int
    num_test: int
    num_frames: int = 16
    image_size: int = 256
    seed: int = 0
    check: bool = False

    default_steps: ClassVar[int] = 60
    default_objects: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not 64 <= self.image_size <= 1024:
            raise InputError(f"data.image_size={self.image_size}: toy clips have 64 to 1024 pixels a side")
        if self.num_frames < 2:
            raise InputError(f"data.num_frames={self.num_frames}: a clip has at least 2 frames")

    def splits(self) -> dict[Split, ImageSet]:
        """Return ``train``, ``val`` and ``test``; no two share a clip."""
        numbers = zip(_SPLITS, (self.num_train, self.num_val, self.num_test), strict=True)
        return {
            split: ToyClips(split, number, self.num_frames, self.image_size, self.seed) for split, number in numbers
        }


@dataclass(frozen=True)
class Actor:
    """An object and its way through a clip.

    Attributes:
        kind: What it looks like.
        outline: Its shape.
        radius: Its size on the first frame.
        start: Its center on the first frame.
        swing: How far it swings to and fro, in x and y; far enough, and it leaves the picture.
        turns: Swings in a clip.
        drift: How far it goes on in a clip, in x and y.
        spin: How far it turns in a clip, in radians.
        growth: Its size at the end as a multiple of that at the start.
        seed: Of its texture, the same on all frames.
    """

    kind: Kind
    outline: Outline
    radius: float
    start: tuple[float, float]
    swing: tuple[float, float]
    turns: float
    drift: tuple[float, float]
    spin: float
    growth: float
    seed: int

    @classmethod
    def draw(cls, kind: Kind, rng: np.random.Generator) -> Actor:
        """Draw any actor."""
        leaves = chance(rng, 0.3)
        reach = between(rng, 0.5, 0.9) if leaves else between(rng, 0.0, 0.25)
        angle, drift = rng.random() * 2 * np.pi, between(rng, 0.0, 0.35)
        way = rng.random() * 2 * np.pi
        return cls(
            kind=kind,
            outline=kind.family(rng),
            radius=log_between(rng, 0.07, 0.24),
            start=(between(rng, 0.12, 0.88), between(rng, 0.12, 0.88)),
            swing=(reach * math.cos(angle), reach * math.sin(angle)),
            turns=between(rng, 0.5, 1.3),
            drift=(drift * math.cos(way), drift * math.sin(way)),
            spin=between(rng, -1.5, 1.5) if chance(rng, 0.6) else 0.0,
            growth=log_between(rng, 0.7, 1.4),
            seed=int(rng.integers(1 << 31)),
        )

    def pose(self, time: float) -> Pose:
        """Return where it is at a time from 0 to 1."""
        phase = math.sin(2 * math.pi * self.turns * time)
        x, y = (
            start + swing * phase + drift * time
            for start, swing, drift in zip(self.start, self.swing, self.drift, strict=True)
        )
        return Pose(self.outline, (x, y), self.radius * self.growth**time, self.spin * time)


class Scene:
    """A ground and actors, the later ones in front of the earlier.

    Args:
        size: Side of the image in pixels.
        rng: Draws everything.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        look = Look.draw(rng)
        ground = Canvas(size)
        look.paint_ground(ground, rng)
        self.ground = ground.image
        families = tuple(family for family in outlines.ALL if family not in outlines.THIN)
        kinds = [look.kind(rng, families) for _ in range(count(rng, 1, 4))]
        self.actors = [Actor.draw(pick(rng, kinds), rng) for _ in range(count(rng, 2, _MOST_OBJECTS))]
        self.is_grey = look.palette.kind == "grey"
        self.camera_seed = int(rng.integers(1 << 31))

    def paint(self, time: float) -> tuple[UInt8[np.ndarray, "3 h w"], Int[np.ndarray, "h w"]]:
        """Return the picture at a time from 0 to 1, and the number of the actor at each pixel, counted from 1."""
        canvas = Canvas(self.ground.shape[-1])
        canvas.image[:] = self.ground
        numbers = [0]
        for number, actor in enumerate(self.actors, start=1):
            actor.kind.draw_at(canvas, actor.pose(time), np.random.default_rng(actor.seed))
            numbers += [number] * (len(canvas.levels) + 1 - len(numbers))
        image = camera(canvas.image, np.random.default_rng(self.camera_seed), self.is_grey)
        return image, np.array(numbers, np.int32)[canvas.labels[0]]


class ToyClips(ClipSet):
    """One split of procedural clips. A clip depends on its size, number of frames, seed, split and index alone."""

    def __init__(self, split: Split, num_clips: int, num_frames: int, image_size: int, seed: int = 0) -> None:
        frames = tuple(f"{frame:05d}" for frame in range(num_frames))
        self.split, self.image_size, self.seed = split, image_size, seed
        super().__init__([Clip(f"toy-video/{split}/{n:06d}", frames, range(num_frames)) for n in range(num_clips)])

    def read_frame(self, clip: int, frame: int, with_image: bool = True) -> Sample:
        """Draw one frame; what is nearly or wholly hidden on the first frame is scenery, not an object."""
        scene, actors = _scene(self.split, clip, self.image_size, self.seed)
        image, labels = scene.paint(frame / (len(self.clips[clip].frames) - 1))
        pixels = torch.from_numpy(np.ascontiguousarray(image))
        present = np.intersect1d(np.unique(labels), actors)
        return Sample(
            id=f"{self.clips[clip].name}/{self.clips[clip].frames[frame]}",
            image=pixels if with_image else pixels[:0],
            labels=torch.from_numpy(labels)[None],
            plane=torch.zeros(len(present), dtype=torch.long),
            value=torch.from_numpy(present).long(),
            group=self.clips[clip].name,
        )

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: name, size and seed determine the frame."""
        return self.frame_fingerprint(*self.place(index))

    def frame_fingerprint(self, clip: int, frame: int) -> str:
        """See :meth:`ClipSet.frame_fingerprint`."""
        name = f"{self.clips[clip].name}/{self.clips[clip].frames[frame]}"
        return f"{name}: {self.image_size} px, seed {self.seed}, of {len(self.clips[clip].frames)}"


@lru_cache(maxsize=_SCENES_KEPT)
def _scene(split: Split, clip: int, image_size: int, seed: int) -> tuple[Scene, Int[np.ndarray, "n"]]:
    """Return the scene of a clip, and the numbers of the actors seen well enough on its first frame; at least one."""
    for attempt in itertools.count():
        seeds = np.random.SeedSequence(seed, spawn_key=(_SPLITS.index(split), clip, attempt))
        scene = Scene(image_size, np.random.default_rng(seeds))
        areas = np.bincount(scene.paint(0.0)[1].ravel(), minlength=len(scene.actors) + 1)[1:]
        (seen,) = np.nonzero(areas >= _LEAST_AREA * image_size**2)
        if len(seen):
            return scene, seen + 1
    raise AssertionError
