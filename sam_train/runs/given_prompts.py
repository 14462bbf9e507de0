"""How many objects came with boxes or points of their own, told before a run that trains on them."""

from __future__ import annotations

from sam_train.data.loading.crowds import without_crowds
from sam_train.data.sources.base import ImageSet
from sam_train.data.sources.skipping import SkippedError
from sam_train.errors import InputError
from sam_train.structures import PointLabel

_LOOKED_AT = 100  # images


def tell_given(train: ImageSet) -> str:
    """Return in words how many objects of some training images have prompts of their own, and what the others get.

    Raises:
        InputError: If none has.
    """
    images = train.some(_LOOKED_AT)
    objects = given = 0
    for index in range(len(images)):
        try:
            sample = without_crowds(images.read(index, with_image=False))
        except SkippedError:
            continue
        objects += len(sample.value)
        if sample.prompts is not None:
            given += int((sample.prompts.labels != PointLabel.EMPTY).any(dim=1).sum())
    looked_at = f"{objects} objects" if images is train else f"{objects} objects of {len(images)} training images"
    if not given:
        raise InputError(
            f"prompts.given: none of {looked_at} has a box or points that came with the data; name a file of them "
            "(data.boxes=..., data.points=...), or take prompts=box"
        )
    others = "" if given == objects else "; the others get boxes around them"
    return f"prompts: {given} of {looked_at} came with boxes or points{others}"
