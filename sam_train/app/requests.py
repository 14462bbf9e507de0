"""What the page may send; anything else is refused before it is looked at."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sam_train.app.models import Step
from sam_train.app.objects import LabeledObject
from sam_train.app.pictures import MOST_PIXELS

Place = Annotated[float, Field(allow_inf_nan=False)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SentStep(_Sent):
    """A click or a box."""

    box: tuple[Place, Place, Place, Place] | None = None
    point: tuple[Place, Place] | None = None
    label: int = Field(1, ge=0, le=1)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.box is None) == (self.point is None):
            raise ValueError("a step is a point or a box")
        return self

    def step(self) -> Step:
        """Return it in the words of :mod:`sam_train.app.models`."""
        return Step(self.box, self.point, self.label)


class SentSteps(_Sent):
    """All that was done to one object."""

    steps: list[SentStep] = Field(min_length=1, max_length=100)


class SentObject(_Sent):
    """An object that is accepted."""

    lengths: list[Annotated[int, Field(ge=0, le=MOST_PIXELS)]] = Field(min_length=1)
    category: str = Field(max_length=100)
    clicks: int = Field(0, ge=0, le=10_000)
    model: int = Field(0, ge=0)

    def object(self) -> LabeledObject:
        """Return it in the words of :mod:`sam_train.app.objects`."""
        return LabeledObject(self.lengths, self.category, self.clicks, self.model)


class SentObjects(_Sent):
    """All objects of an image."""

    objects: list[SentObject] = Field(max_length=2000)
    revision: str | None = None
