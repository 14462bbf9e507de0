"""Following objects through a video: prompts anywhere and at any time, forward, backward or as frames come."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from sam_train.data.loading.transforms import resize_image
from sam_train.errors import InputError
from sam_train.models.promptable import PromptableModel
from sam_train.models.sam2.memory_bank import INFERENCE, Course, MemoryBank, TrackingRules
from sam_train.models.sam2.tracking import TrackingModel, empty_where_absent
from sam_train.structures import ImageFeatures, MaskPrediction, PointLabel, Prompts

Frames = Sequence[UInt8[Tensor, "3 h w"]] | Callable[[int], UInt8[Tensor, "3 h w"]]

LARGEST_LOGIT = 32.0  # of a prediction that a correction sees, as the official predictor clamps it
FRAMES_KEPT = 2  # encoded frames that are kept

_LABELS = set(PointLabel) - {PointLabel.EMPTY}


class FrameMasks(NamedTuple):
    """What is found on a frame.

    Attributes:
        frame: Index of the frame.
        objects: The objects that are known, in the order in which they were added.
        masks: Their masks at the frame's own size, empty where an object is not there.
        score: Their object scores, positive where an object is there.
    """

    frame: int
    objects: tuple[Hashable, ...]
    masks: Bool[Tensor, "P h w"]
    score: Float[Tensor, "P"]


class VideoSession:
    """One video and the objects that are followed in it.

    A prompt makes its frame a conditioning frame of the object, whether the frame was seen before or not: corrections
    stay when objects are followed through it again. Objects are followed all at once; each frame is encoded once. What
    is remembered does not grow with the video, only with the number of prompts.

    Args:
        model: In evaluation mode.
        frames: The video's frames by index, read when they are needed; None for frames that come one by one
            (:meth:`see`).
        num_frames: Their number, where ``frames`` is a function.
        rules: How objects are followed.
    """

    def __init__(
        self,
        model: PromptableModel,
        frames: Frames | None = None,
        num_frames: int | None = None,
        rules: TrackingRules = INFERENCE,
    ) -> None:
        if not isinstance(model, TrackingModel) or not model.has_memory():
            raise InputError(
                "this model has no memory, which following objects needs: load weights of SAM 2 that have one, or "
                "train it (task=video)"
            )
        self.model = model
        self.rules = rules
        self.objects: list[Hashable] = []
        self.num_frames = len(frames) if isinstance(frames, (Sequence, Tensor)) else num_frames
        self._frames = frames
        self._banks: list[MemoryBank] = []  # of one object each
        self._said: dict[tuple[Hashable, int], Prompts] = {}
        self._prompted: dict[tuple[Hashable, int], MaskPrediction] = {}  # what followed the last prompt
        self._latest: dict[Hashable, tuple[int, MaskPrediction]] = {}  # where the object was followed last
        self._encoded: dict[int, tuple[ImageFeatures, tuple[int, int]]] = {}
        self._next = 0

    def prompt(
        self,
        frame: int,
        name: Hashable,
        points: Sequence[Sequence[float]] | Float[Tensor, "n 2"] = (),
        labels: Sequence[int] | Int[Tensor, "n"] = (),
        box: Sequence[float] | None = None,
        mask: Bool[Tensor, "h w"] | None = None,
    ) -> Bool[Tensor, "h w"]:
        """Say where an object is on a frame, for the first time or to correct what was found; return its mask there.

        Points are added to those that were said of the object on this frame before.

        Args:
            frame: Index of the frame.
            name: Of the object; a new name is a new object.
            points: x, y in pixels of the frame.
            labels: 1 for points on the object, 0 for others; 2 and 3 for a box's upper left and lower right corner.
            box: x, y of the upper left and of the lower right corner.
            mask: The object's mask, which is then the result.

        Raises:
            InputError: If nothing is said, or a mask comes with points.
        """
        features, size = self._encode(frame)
        said = self._in_input(points, labels, box, size)
        if (said is None) == (mask is None):
            raise InputError(f"object {name!r} on frame {frame}: give points or a box, or a mask, and not both")
        if name not in self.objects:
            self.objects.append(name)
            self._banks.append(MemoryBank.empty(1))
        index = self.objects.index(name)
        before = self._seen(name, frame)
        prompts, given = None, None
        if said is not None:
            old = self._said.get((name, frame))
            prompts = said if old is None else old.with_points(said.points, said.labels)
            self._said[name, frame] = prompts
            if before is not None:
                logits = before.logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
                prompts = replace(prompts, masks=logits)
        if mask is not None:
            given = self._mask_in_input(mask)
            self._said.pop((name, frame), None)
        prediction, bank = self._track([index], features, frame, prompts, given, before is not None, self._course())
        self._banks[index] = bank
        self._prompted[name, frame] = prediction
        return self._masks(prediction, size)[0]

    def prediction(self, name: Hashable, frame: int) -> MaskPrediction:
        """Return what was found of an object on a frame where it was prompted, or on the one it was followed to last.

        It is in the frame of the model's input.
        """
        found = self._seen(name, frame)
        assert found is not None, "a frame that was prompted, or the last one followed"
        return found

    def propagate(self, start: int | None = None, reverse: bool = False) -> Iterator[FrameMasks]:
        """Follow all objects through the video and yield what is found on each frame.

        Args:
            start: The first frame; by default the first one prompted, or the last one to go back from.
            reverse: Go back in time.
        """
        assert self._frames is not None, "propagate needs the frames; those that come one by one go to see()"
        prompted = [frame for _, frame in self._prompted]
        if not prompted:
            raise InputError("no object to follow: prompt one first")
        if start is None:
            start = max(prompted) if reverse else min(prompted)
        assert self.num_frames is not None
        for frame in range(start, -1, -1) if reverse else range(start, self.num_frames):
            yield self._follow(frame, self._course(reverse))

    def see(self, image: UInt8[Tensor, "3 h w"]) -> FrameMasks:
        """Take the next frame of a video that comes frame by frame, and return what is found on it.

        New objects on it are prompted afterwards, by its index :attr:`FrameMasks.frame`.
        """
        frame = self._next
        self._next += 1
        self._keep(frame, image)
        return self._follow(frame, self._course())

    def see_features(self, features: ImageFeatures, size: tuple[int, int]) -> FrameMasks:
        """Take the next frame as :meth:`see` does, encoded already; ``size`` is the image's height and width."""
        frame = self._next
        self._next += 1
        self._store(frame, features, size)
        return self._follow(frame, self._course())

    def _follow(self, frame: int, course: Course) -> FrameMasks:
        features, size = self._encode(frame)
        followed = [index for index, name in enumerate(self.objects) if (name, frame) not in self._prompted]
        shown = {index: self._prompted[name, frame] for index, name in enumerate(self.objects) if index not in followed}
        if followed:
            prediction, bank = self._track(followed, features, frame, None, None, True, course)
            bank = bank.forget(frame, course, self.rules)  # as far as a correction of this frame needs it
            for place, index in enumerate(followed):
                self._banks[index] = bank.of([place])
                shown[index] = prediction.of(torch.tensor([place], device=prediction.logits.device))
                self._latest[self.objects[index]] = frame, shown[index]
        return self._found(frame, [shown[index] for index in range(len(self.objects))], size)

    def masks(self, frame: int) -> FrameMasks:
        """Return what is found of all objects on a frame that was just seen or prompted, without following anew."""
        rows = [self._seen(name, frame) for name in self.objects]
        empty = next((row for row in rows if row is not None), None)
        if empty is None:
            return self._found(frame, [], self._encode(frame)[1])
        assert empty.object_score is not None
        nothing = replace(
            empty, logits=torch.full_like(empty.logits, -1.0), object_score=torch.full_like(empty.object_score, -1.0)
        )
        return self._found(frame, [row or nothing for row in rows], self._encode(frame)[1])

    def _found(self, frame: int, rows: Sequence[MaskPrediction], size: tuple[int, int]) -> FrameMasks:
        masks = [self._masks(row, size) for row in rows]
        scores = [row.object_score for row in rows if row.object_score is not None]
        return FrameMasks(
            frame,
            tuple(self.objects),
            torch.cat(masks) if masks else torch.zeros(0, *size, dtype=torch.bool),
            torch.cat(scores) if scores else torch.zeros(0),
        )

    @torch.no_grad()
    def _track(
        self,
        objects: Sequence[int],
        features: ImageFeatures,
        frame: int,
        prompts: Prompts | None,
        masks: Bool[Tensor, "p S S"] | None,
        looks_back: bool,
        course: Course,
    ) -> tuple[MaskPrediction, MemoryBank]:
        bank = MemoryBank.cat(self._banks[index] for index in objects)
        object_image = torch.zeros(len(objects), dtype=torch.long, device=features.embedding.device)
        prediction, bank = self.model.track(
            features,
            prompts,
            object_image,
            bank,
            frame,
            masks=masks,
            looks_back=looks_back,
            course=course,
            rules=self.rules,
        )
        return empty_where_absent(prediction.best()), bank

    def _seen(self, name: Hashable, frame: int) -> MaskPrediction | None:
        """Return what was found of an object on a frame, if that is known and the last that was."""
        if (name, frame) in self._prompted:
            return self._prompted[name, frame]
        where, prediction = self._latest.get(name, (None, None))
        return prediction if where == frame else None

    def _course(self, reverse: bool = False) -> Course:
        return Course(reverse, self.num_frames)

    def _masks(self, prediction: MaskPrediction, size: tuple[int, int]) -> Bool[Tensor, "P h w"]:
        logits = self.model.preprocessing.restore_logits(prediction.logits.float(), size)
        return logits[:, 0] > 0

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _encode(self, frame: int) -> tuple[ImageFeatures, tuple[int, int]]:
        if frame not in self._encoded:
            if self._frames is None:
                raise InputError(
                    f"frame {frame} is gone: of frames that come one by one the last {FRAMES_KEPT} are kept"
                )
            if not 0 <= frame < (self.num_frames or 0):
                raise InputError(f"frame {frame}: the video has the frames 0 to {(self.num_frames or 0) - 1}")
            self._keep(frame, self._frames(frame) if callable(self._frames) else self._frames[frame])
        return self._encoded[frame]

    @torch.no_grad()
    def _keep(self, frame: int, image: UInt8[Tensor, "3 h w"]) -> None:
        size = image.shape[-2], image.shape[-1]
        self._store(frame, encode_frame(self.model, image), size)

    def _store(self, frame: int, features: ImageFeatures, size: tuple[int, int]) -> None:
        self._encoded[frame] = features, size
        while len(self._encoded) > FRAMES_KEPT:
            del self._encoded[next(iter(self._encoded))]

    def _in_input(
        self,
        points: Sequence[Sequence[float]] | Float[Tensor, "n 2"],
        labels: Sequence[int] | Int[Tensor, "n"],
        box: Sequence[float] | None,
        size: tuple[int, int],
    ) -> Prompts | None:
        if len(points) != len(labels):
            raise InputError(f"{len(points)} points and {len(labels)} labels: give each point a label, 1 or 0")
        xy = torch.as_tensor(points, dtype=torch.float).reshape(-1, 2)
        kinds = torch.as_tensor(labels, dtype=torch.long)
        if wrong := set(kinds.tolist()) - _LABELS:
            raise InputError(f"label {min(wrong)}: expected 1 for a point on the object, 0 for another")
        if box is not None:
            xy = torch.cat([torch.as_tensor(box, dtype=torch.float).reshape(2, 2), xy])
            kinds = torch.cat([torch.tensor([PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]), kinds])
        if not len(xy):
            return None
        scaled = self.model.preprocessing.scale_points(xy, size)
        return Prompts(scaled[None].to(self._device), kinds[None].to(self._device))

    def _mask_in_input(self, mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "1 S S"]:
        side = self.model.preprocessing.image_size
        resized = torch.nn.functional.interpolate(
            mask[None, None].float(), (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        return (resized[:, 0] >= 0.5).to(self._device)


@torch.no_grad()
def encode_frame(model: TrackingModel, image: UInt8[Tensor, "3 h w"]) -> ImageFeatures:
    """Return the features of one frame at its own size."""
    device = next(model.parameters()).device
    resized = resize_image(image, model.preprocessing)[None].to(device)
    side = torch.tensor([resized.shape[-2:]], device=device)
    return model.encode_image(model.preprocessing.normalize(resized, side).to(next(model.parameters()).dtype))
