"""Images, models, labels and tuning as one page needs them; it knows nothing of the web."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from sam_train.app.models import Models, Step
from sam_train.app.objects import LabeledObject, objects_of
from sam_train.app.pictures import Picture
from sam_train.app.saving import SavedLabels
from sam_train.app.tuning import FEWEST, Tuner
from sam_train.errors import InputError

_QUALITY = 95  # of JPEG, in which images travel to the page; models see the pixels themselves


class UnknownImageError(InputError):
    """There is no image of this number."""


@dataclass
class Labeling:
    """All that is shared by those who label: images, models and what was accepted.

    What a person has clicked and not accepted is on their page alone.

    Attributes:
        pictures: The images.
        models: That find objects.
        saved: What was accepted.
        tuner: Tunes on that.
        categories: Names of objects that the page offers.
        notes: What the person should know of the folder.
    """

    pictures: Sequence[Picture]
    models: Models
    saved: SavedLabels
    tuner: Tuner
    categories: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    _problems: dict[int, str] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Return what the page shows around an image."""
        names = dict.fromkeys([*self.categories, *self.saved.categories()])
        return {
            "images": [
                {"name": one.name, "saved": self.saved.is_saved(one.name), "problem": self._problems.get(index)}
                for index, one in enumerate(self.pictures)
            ],
            "categories": list(names),
            "output": str(self.saved.folder),
            "notes": self.notes,
            "tuned": self.models.number,
            "hasTuned": self.models.has_tuned,
            "fewest": FEWEST,
            "accepted": len(self.saved),
            "clicks": [
                {"model": model, "objects": objects, "clicks": clicks} for model, objects, clicks in self.saved.clicks()
            ],
            "tuning": self.tuning(),
        }

    def tuning(self) -> dict[str, Any]:
        """Return how tuning goes."""
        now = self.tuner.progress
        return {
            "state": now.state,
            "images": now.images,
            "steps": now.steps,
            "loss": list(now.loss),
            "iou": list(now.iou),
            "gain": now.gain,
            "isNoBetter": self.models.is_no_better,
            "message": now.message,
            "tuned": self.models.number,
        }

    def jpeg(self, index: int) -> bytes:
        """Return an image as the page shows it.

        Raises:
            InputError: If it cannot be read.
        """
        pixels = self._read(index, self._picture(index).pixels).permute(1, 2, 0).contiguous().numpy()
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, subsampling=0)
        return file.getvalue()

    def prepare(self, index: int) -> None:
        """Encode an image, so that the first click is answered at once.

        Raises:
            InputError: If it cannot be read.
        """
        self._read(index, lambda: self.models.prepare(index, self._picture(index).pixels))

    def objects(self, index: int) -> dict[str, Any]:
        """Return the objects of an image: those that were accepted, or else those that came with it.

        Raises:
            InputError: If it cannot be read.
        """
        picture = self._picture(index)
        is_saved = self.saved.is_saved(picture.name)
        known = self.saved.objects(picture.name) if is_saved else self._read(index, lambda: objects_of(picture.known()))
        return {
            "objects": [vars(one) for one in known],
            "revision": self.saved.revision(picture.name),
            "saved": is_saved,
        }

    def masks(self, index: int, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """Return what each model makes of the steps of an object.

        Raises:
            InputError: If they do not fit the image, or it cannot be read.
        """
        return [one._asdict() for one in self.models.answer(index, self._picture(index).pixels, steps)]

    def accept(self, index: int, objects: Sequence[LabeledObject], revision: str | None) -> dict[str, Any]:
        """Save the objects of an image.

        Raises:
            InputError: If they do not fit the image, or someone else has accepted it meanwhile.
        """
        picture = self._picture(index)
        size = self._read(index, picture.pixels).shape[1:]
        revision = self.saved.accept(picture.name, (size[0], size[1]), objects, revision)
        return {"revision": revision, "saved": self.saved.is_saved(picture.name)}

    def tune(self) -> None:
        """Begin to tune on what was accepted.

        Raises:
            InputError: If there is too little of it, or tuning is going on.
        """
        self.tuner.start(len(self.saved))

    def _picture(self, index: int) -> Picture:
        if index >= len(self.pictures):
            raise UnknownImageError(f"there is no image {index}; load the page anew")
        return self.pictures[index]

    def _read(self, index: int, read: Callable[[], Any]) -> Any:
        """Return what an image is asked for, and remember one that cannot be read."""
        try:
            return read()
        except InputError as error:
            self._problems[index] = str(error)
            raise
