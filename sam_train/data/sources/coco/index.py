"""What a COCO file says, in arrays that processes share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from sam_train.data.sources.coco.outlines import Outlines
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.data.sources.prompt_files import GivenObject
from sam_train.errors import Problem


@dataclass(frozen=True)
class CocoIndex:
    """Images and annotations of one file; the annotations of an image stand one after the other.

    Attributes:
        path: The file.
        names: Per image, the name of its file as the annotations say it, with ``/``.
        sizes: Per image, height and width; 0 where the file does not say.
        groups: Per image, the value of the key that names groups; None if there is no such key.
        start: Where the annotations of each image begin.
        categories: Names of the categories, in order of the file.
        category: Per annotation, the index of its category.
        crowd: Per annotation, whether it is a region of many things.
        area: Per annotation, its pixels as the file says; nan where it does not.
        box: Per annotation, its box as left, top, width, height; nan where the file says none.
        keypoint: Where the keypoints of each annotation begin, of those that are visible.
        keypoints: x and y of all visible keypoints.
        image_id: Per image, its id in the file.
        number: Per annotation, its id in the file, or its position there if the id is no whole number.
        outlines: Per annotation, its outline.
        problems: Of records that belong to no image.
    """

    path: Path
    names: PackedTexts
    sizes: Int[np.ndarray, "I 2"]
    groups: PackedTexts | None
    start: Int[np.ndarray, "I+1"]
    categories: tuple[str, ...]
    category: Int[np.ndarray, "A"]
    crowd: Bool[np.ndarray, "A"]
    area: Float[np.ndarray, "A"]
    box: Float[np.ndarray, "A 4"]
    keypoint: Int[np.ndarray, "A+1"]
    keypoints: Float[np.ndarray, "K 2"]
    image_id: PackedTexts
    number: Int[np.ndarray, "A"]
    outlines: Outlines
    problems: tuple[Problem, ...]

    def rows(self, image: int) -> range:
        """Return the annotations of an image."""
        return range(self.start[image], self.start[image + 1])

    def given(self, annotation: int, kind: str) -> GivenObject:
        """Return the box and the visible keypoints of an annotation.

        Args:
            annotation: Its row.
            kind: ``boxes``, ``keypoints`` or ``both``.
        """
        left, top, width, height = self.box[annotation].tolist()
        is_box = kind != "keypoints" and width > 0 and height > 0
        points = self.keypoints[self.keypoint[annotation] : self.keypoint[annotation + 1]] if kind != "boxes" else ()
        return GivenObject(
            (left, top, left + width, top + height) if is_box else None,
            tuple((float(x), float(y)) for x, y in points),
            (1,) * len(points),
        )

    def with_objects(self) -> Int[np.ndarray, "n"]:
        """Return the images that have an annotation of a single object."""
        things = np.concatenate([[0], np.cumsum(~self.crowd)])[self.start]
        return np.diff(things).nonzero()[0]
