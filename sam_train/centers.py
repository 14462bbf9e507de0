"""Where objects are, without their masks: their boxes, and maps of their centers over an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sam_train.tensors import Tensors


@dataclass  # not frozen: Lightning's precision plugins refuse to convert what is
class ObjectBoxes(Tensors):
    """Boxes of all objects of some images, also of those whose masks do not train in this step.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels of the model's input, around what of the object is in it.
        object_image: Per object, the index of its image; ascending.
        category: Per object, the number of its category.
        ignore: Per image, the pixels that are neither object nor background, crowds among them; None where no image
            has any.
    """

    boxes: Float[Tensor, "K 4"]
    object_image: Int[Tensor, "K"]
    category: Int[Tensor, "K"]
    ignore: Bool[Tensor, "B S S"] | None = None

    def select(self, images: slice) -> ObjectBoxes:
        """The boxes of consecutive images, of which there are as many as the slice says."""
        objects = (self.object_image >= images.start) & (self.object_image < images.stop)
        return ObjectBoxes(
            self.boxes[objects],
            self.object_image[objects] - images.start,
            self.category[objects],
            None if self.ignore is None else self.ignore[images],
        )


class CenterMaps(NamedTuple):
    """What the head says of each cell of a grid over the model's input.

    Attributes:
        heat: Logit, for each category, of an object of it having its center in the cell.
        size: Natural logarithms of width and height, in cells, of the box of the object whose center is there.
        offset: x, y of that center from the cell's upper left corner, in cells.
    """

    heat: Float[Tensor, "B C h w"]
    size: Float[Tensor, "B 2 h w"]
    offset: Float[Tensor, "B 2 h w"]
