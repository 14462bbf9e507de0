"""The words every part of sam_train speaks.

Axes: B images, P objects, N points, M mask candidates, S side of the model's square input, h and w the size of a mask.

Objects are *packed*: all P objects of a batch lie in one leading axis, and ``object_image`` of shape (P,) says which of
the B images each belongs to. Coordinates are x, y in pixels of the model's input unless a name says otherwise; sizes
are (height, width).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int, Integer, UInt8
from torch import Tensor

from sam_train.centers import ObjectBoxes
from sam_train.label_planes import count_pixels, unpack_masks
from sam_train.tensors import Tensors


class PointLabel(IntEnum):
    """What a point says to the prompt encoder. The numbers are the ones Segment Anything was trained with."""

    EMPTY = -1  # a slot without a point: it never changes a result
    BACKGROUND = 0
    OBJECT = 1
    BOX_TOP_LEFT = 2
    BOX_BOTTOM_RIGHT = 3


NUM_DRAWS = 16
"""Uniform random numbers an object carries: 6 for its first prompt, then one for each of up to 10 corrections."""


@dataclass(frozen=True)
class Prompts(Tensors):
    """What a person would give for each object: clicks, box corners, a rough mask, or any of them together.

    Attributes:
        points: x, y in pixels of the model's input.
        labels: :class:`PointLabel` of each point. Rows with fewer points are filled with ``EMPTY``.
        masks: Logits of an earlier prediction, at a quarter of the input's side; None if no object has one.
        has_mask: Which objects' ``masks`` count; None means all of them.
    """

    points: Float[Tensor, "P N 2"]
    labels: Int[Tensor, "P N"]
    masks: Float[Tensor, "P 1 h w"] | None = None
    has_mask: Bool[Tensor, "P"] | None = None

    @classmethod
    def from_boxes(cls, boxes: Float[Tensor, "P 4"]) -> Prompts:
        """One box an object, xyxy in pixels of the model's input."""
        corners = torch.tensor([PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT], device=boxes.device)
        return cls(points=boxes.unflatten(1, (2, 2)), labels=corners.expand(len(boxes), 2))

    @classmethod
    def cat(cls, prompts: Sequence[Prompts]) -> Prompts:
        """The points of all objects, in order; all have as many."""
        return cls(torch.cat([some.points for some in prompts]), torch.cat([some.labels for some in prompts]))

    def of(self, objects: slice | Bool[Tensor, "P"] | Int[Tensor, "K"]) -> Prompts:
        """The prompts of these objects only, in this order."""
        return self._map(lambda tensor: tensor[objects])

    def rolled(self, shift: int) -> Prompts:
        """Return the prompts of the objects moved on by ``shift`` places, as :func:`torch.roll` does."""
        return self._map(lambda tensor: tensor.roll(shift, 0))

    def with_points(self, points: Float[Tensor, "P n 2"], labels: Int[Tensor, "P n"]) -> Prompts:
        """The same prompts and these points after them."""
        return replace(self, points=torch.cat([self.points, points], 1), labels=torch.cat([self.labels, labels], 1))


@dataclass  # not frozen for the same reason as Batch, which may hold it
class Sample(Tensors):
    """One image and the objects of it that will be used, before batching.

    Objects are regions of label planes (:mod:`sam_train.label_planes`): object i is where
    ``labels[plane[i]] == value[i]``.

    Attributes:
        id: Unique in its dataset; randomness of prompts and every report refer to it.
        image: Red, green, blue, 8 bit; no channel at all where only the objects were asked for.
        labels: One or more planes of the image's size; 0 is background.
        plane: Per object, its plane.
        value: Per object, its value there; no two objects of an image have the same, whichever of them are read.
        ignore: Pixels that are neither object nor background: they count in no loss, prompt or score.
        category: Per object, the name of what it is.
        crowd: Per object, whether it is a region of many things: never prompted, and ignored in scores.
        prompts: Boxes and points that came with the data, in pixels of this image; ``EMPTY`` labels where an object
            has none.
        group: Patient, slide or video that the image belongs to; None if it stands alone.
        spacing: Distance in mm from one row to the next and from one column to the next.
        source: Name of the source that the image is of, where there are several.
    """

    id: str
    image: UInt8[Tensor, "c h w"]
    labels: Integer[Tensor, "L h w"]
    plane: Int[Tensor, "P"]
    value: Int[Tensor, "P"]
    ignore: Bool[Tensor, "h w"] | None = None
    category: tuple[str, ...] | None = None
    crowd: Bool[Tensor, "P"] | None = None
    prompts: Prompts | None = None
    group: str | None = None
    spacing: tuple[float, float] | None = None
    source: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[-2], self.image.shape[-1]

    def masks(self) -> Bool[Tensor, "P h w"]:
        """One boolean mask per object."""
        return unpack_masks(self.labels, self.plane, self.value)

    def each_mask(self) -> Iterator[Bool[Tensor, "h w"]]:
        """The same masks one after the other, so that none need be kept."""
        for plane, value in zip(self.plane.tolist(), self.value.tolist(), strict=True):
            yield self.labels[plane] == value

    def areas(self) -> Int[Tensor, "P"]:
        """Number of pixels of each object."""
        return count_pixels(self.labels, self.plane, self.value)

    def keep(self, objects: Bool[Tensor, "P"] | Int[Tensor, "K"]) -> Sample:
        """The same image with these objects only, in this order."""
        indices = objects.nonzero()[:, 0] if objects.dtype == torch.bool else objects
        return replace(
            self,
            plane=self.plane[indices],
            value=self.value[indices],
            category=self.category and tuple(self.category[index] for index in indices.tolist()),
            crowd=None if self.crowd is None else self.crowd[indices],
            prompts=self.prompts and self.prompts.of(indices),
        )


@dataclass  # not frozen: Lightning's precision plugins refuse to convert what is
class Batch(Tensors):
    """Images with their packed objects.

    Attributes:
        images: 0..255, resized and padded as the model's :class:`Preprocessing` says; None where ``features`` stand for
            them.
        masks: Ground truth in the frame of the input.
        object_image: Per object, the index of its image; ascending.
        valid_size: Per image, (height, width) of the un-padded part of the input.
        original_size: Per image, (height, width) as it came from disk.
        draws: Per object, its own uniform random numbers in [0, 1). Everything random about an object's prompts comes
            from its row, so prompts do not depend on what else is in the batch, on workers or on devices.
        ids: Per image, its sample's id.
        originals: Per image, its objects at the original size, without the image; only in evaluation.
        num_too_small: Per image, how many objects more it has, left out for ``loader.min_area``; only in evaluation.
        ignore: Per image, the pixels that are neither object nor background; None if no image of the batch has any.
        given: Boxes and points that came with the data; None if no image of the batch has any.
        features: Features of the images, or the state of the encoder before its first part that trains, where that was
            known beforehand; in the precision it was kept in.
        everything: Boxes of all objects of the images; only where a head that finds them trains.
    """

    images: UInt8[Tensor, "B 3 S S"] | None
    masks: Bool[Tensor, "P S S"]
    object_image: Int[Tensor, "P"]
    valid_size: Int[Tensor, "B 2"]
    original_size: Int[Tensor, "B 2"]
    draws: Float[Tensor, "P R"]
    ids: tuple[str, ...]
    originals: tuple[Sample, ...] | None = None
    num_too_small: tuple[int, ...] | None = None
    ignore: Bool[Tensor, "B S S"] | None = None
    given: Prompts | None = None
    features: ImageFeatures | EncoderState | None = None
    everything: ObjectBoxes | None = None

    @property
    def num_objects(self) -> int:
        """P, over all images."""
        return self.masks.shape[0]

    def image(self, index: int) -> Batch:
        """The batch of one image."""
        return self.select(slice(index, index + 1))

    def select(self, images: slice) -> Batch:
        """The batch of consecutive images, such as ``slice(0, 2)``."""
        first, stop, _ = images.indices(len(self.ids))
        objects = (self.object_image >= first) & (self.object_image < stop)
        return Batch(
            images=None if self.images is None else self.images[images],
            masks=self.masks[objects],
            object_image=self.object_image[objects] - first,
            valid_size=self.valid_size[images],
            original_size=self.original_size[images],
            draws=self.draws[objects],
            ids=self.ids[images],
            originals=self.originals and self.originals[images],
            num_too_small=self.num_too_small and self.num_too_small[images],
            ignore=None if self.ignore is None else self.ignore[images],
            given=self.given and self.given.of(objects),
            features=self.features and self.features.select(images),
            everything=self.everything and self.everything.select(slice(first, stop)),
        )

    def with_objects(self, objects: slice | Int[Tensor, "K"]) -> Batch:
        """The same images with these objects only, in the frame of the input."""
        return replace(
            self,
            masks=self.masks[objects],
            object_image=self.object_image[objects],
            draws=self.draws[objects],
            given=self.given and self.given.of(objects),
            originals=None,
            num_too_small=None,
        )


@dataclass  # not frozen for the same reason as Batch, which may hold it
class ImageFeatures(Tensors):
    """What the image encoder says of each image, all that decoding needs of it.

    Attributes:
        embedding: At a sixteenth of the input's side.
        high_res: SAM 2's finer features, at a quarter and an eighth of the side; empty for SAM.
    """

    embedding: Float[Tensor, "B C h w"]
    high_res: tuple[Float[Tensor, "B c4 h4 w4"], Float[Tensor, "B c8 h8 w8"]] | tuple[()] = ()

    def image(self, index: int) -> ImageFeatures:
        """The features of one image."""
        return self.select(slice(index, index + 1))

    def select(self, images: slice) -> ImageFeatures:
        """The features of consecutive images."""
        return self._map(lambda tensor: tensor[images])

    @classmethod
    def cat(cls, features: Sequence[ImageFeatures]) -> ImageFeatures:
        """Those of all images, in order."""
        high_res = tuple(torch.cat(level) for level in zip(*(one.high_res for one in features), strict=True))
        return cls(torch.cat([one.embedding for one in features]), high_res)  # pyright: ignore[reportArgumentType]

    def detach(self) -> ImageFeatures:
        """Return the features without what they were computed from: no gradient goes further back."""
        return self._map(lambda tensor: tensor.detach())

    def chunk(self, count: int) -> list[ImageFeatures]:
        """Return the features in this many parts of as many images, in order: of the frames of clips, for instance."""
        high_res = zip(*(level.chunk(count) for level in self.high_res), strict=True) if self.high_res else [()] * count
        return [ImageFeatures(*levels) for levels in zip(self.embedding.chunk(count), high_res, strict=True)]  # pyright: ignore[reportArgumentType]


@dataclass  # as ImageFeatures
class EncoderState(Tensors):
    """An image encoder left between two of its steps: all that the rest of it needs.

    Attributes:
        maps: The one to go on with last; before it, those of earlier stages that the encoder also returns. Their axes
            after the first are the encoder's own.
        num_steps: How many of the encoder's steps were taken.
    """

    maps: tuple[Float[Tensor, "B _ _ _"], ...]
    num_steps: int

    def image(self, index: int) -> EncoderState:
        """The state of one image."""
        return self.select(slice(index, index + 1))

    def select(self, images: slice) -> EncoderState:
        """The states of consecutive images."""
        return self._map(lambda tensor: tensor[images])

    @classmethod
    def cat(cls, states: Sequence[EncoderState]) -> EncoderState:
        """Those of all images, in order; all were left at the same step."""
        maps = tuple(torch.cat(level) for level in zip(*(one.maps for one in states), strict=True))
        return cls(maps, states[0].num_steps)


@dataclass(frozen=True)
class MaskPrediction(Tensors):
    """What the mask decoder says of each object.

    Attributes:
        logits: Mask candidates at a quarter of the input's side; positive inside.
        iou: Per candidate, the model's own estimate of its intersection over union with the truth.
        object_score: SAM 2's logit of the object being in the image at all; None for SAM.
        mask_tokens: Output tokens of the candidates; SAM 2's object pointers are made of them. Of the single mask
            always its own token, also where :meth:`PromptableModel.predict` replaced an unstable mask.
    """

    logits: Float[Tensor, "P M h w"]
    iou: Float[Tensor, "P M"]
    object_score: Float[Tensor, "P"] | None = None
    mask_tokens: Float[Tensor, "P M C"] | None = None

    def of(self, objects: slice | Bool[Tensor, "P"] | Int[Tensor, "K"]) -> MaskPrediction:
        """Return the prediction of these objects only, in this order."""
        return self._map(lambda tensor: tensor[objects])

    def best(self) -> MaskPrediction:
        """Return each object's candidate with the highest estimated IoU alone, as M = 1."""
        chosen = self.iou.argmax(dim=1)
        rows = torch.arange(len(chosen), device=chosen.device)
        return replace(
            self,
            logits=self.logits[rows, chosen][:, None],
            iou=self.iou[rows, chosen][:, None],
            mask_tokens=None if self.mask_tokens is None else self.mask_tokens[rows, chosen][:, None],
        )
