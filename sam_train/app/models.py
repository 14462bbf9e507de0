"""The untuned and the tuned model side by side: what a person does to an object, answered by both."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sam_train.app.objects import lengths_of
from sam_train.data.sources.image_files import PLAIN
from sam_train.data.sources.tones import Tones
from sam_train.errors import InputError
from sam_train.inference.images import EncodedImages, ImageLike
from sam_train.inference.predictor import Predictor
from sam_train.models import ImageModel

_IMAGES = 8  # whose features are kept: 16 MB each of SAM 2 at 1024 px
_ANSWERS = 512  # whose logits are kept: 256 kB each, so that a click does not answer those before it anew

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Step(NamedTuple):
    """One thing that a person does to an object.

    Attributes:
        box: Drawn around it: x0, y0, x1, y1 in pixels of the image; a later one takes its place.
        point: Or a click: x, y.
        label: Of the click: 1 on the object, 0 beside it.
    """

    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None
    label: int = 1


class Answer(NamedTuple):
    """What a model makes of an object.

    Attributes:
        model: ``untuned`` or ``tuned``.
        number: Of the tuned model, as :attr:`Models.number`; 0 for the untuned one.
        lengths: The mask as run lengths, column after column.
        iou: The model's own estimate of its intersection over union with the truth.
    """

    model: str
    number: int
    lengths: list[int]
    iou: float


class _Found(NamedTuple):
    """What is kept of an answer."""

    logits: Tensor
    lengths: list[int]
    iou: float


class _Seat(NamedTuple):
    """A model that answers."""

    name: str
    number: int
    predictor: Predictor
    encoder: str


class Models:
    """Both models. An answer follows from image and steps alone, so people who label at once do not meet in it.

    Args:
        untuned: The model as it was.
        tuned: What it has learned already.
        tones: How stored numbers of images become 8 bits.
    """

    def __init__(self, untuned: ImageModel, tuned: ImageModel | None = None, tones: Tones = PLAIN) -> None:
        self.tones = tones
        self._lock = threading.Lock()  # of what is kept
        self._encoding = threading.Lock()
        self._images: OrderedDict[tuple[str, int], EncodedImages] = OrderedDict()
        self._answers: OrderedDict[Hashable, _Found] = OrderedDict()
        self._untuned = self._seat("untuned", 0, untuned)
        self._is_no_better = False
        self._tuned = None if tuned is None else self._seat("tuned", 0, tuned)

    @property
    def number(self) -> int:
        """How often was tuned here; 0 while models are as they were opened."""
        return self._tuned.number if self._tuned else 0

    @property
    def has_tuned(self) -> bool:
        """Whether there is a tuned model, from here or from the checkpoint."""
        return self._tuned is not None

    @property
    def is_no_better(self) -> bool:
        """Whether tuning here came to a model that is no better on images that did not train."""
        return self._is_no_better

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self._untuned.predictor.device

    def take(self, tuned: ImageModel, number: int, is_no_better: bool = False) -> None:
        """Have a newly tuned model answer from now on.

        Args:
            tuned: The model.
            number: That it is known by, above 0.
            is_no_better: Whether the untuned one was as good on images that did not train.
        """
        seat = self._seat("tuned", number, tuned.to(self.device).eval())
        with self._lock:
            self._tuned, self._is_no_better = seat, is_no_better

    def prepare(self, index: int, read: Callable[[], ImageLike]) -> None:
        """Encode an image before anything is asked of it.

        Raises:
            InputError: If it cannot be read.
        """
        for seat in self._seats():
            self._encoded(seat, index, read)

    def answer(self, index: int, read: Callable[[], ImageLike], steps: Sequence[Step]) -> list[Answer]:
        """Return what each model makes of an object.

        Each step but the first refines the mask of the one before, as in training.

        Args:
            index: Number of the image.
            read: Returns the image, if it is not encoded yet.
            steps: All that was done to the object, in order.

        Raises:
            InputError: If there is no step, one is not on the image, or the image cannot be read.
        """
        if not steps:
            raise InputError("nothing was clicked")
        answers = []
        for seat in self._seats():
            image = self._encoded(seat, index, read)
            with self._lock:
                found = self._found(seat, index, image, tuple(steps))
            answers.append(Answer(seat.name, seat.number, found.lengths, found.iou))
        return answers

    def _found(self, seat: _Seat, index: int, image: EncodedImages, steps: tuple[Step, ...]) -> _Found:
        def ask() -> _Found:
            before = self._found(seat, index, image, steps[:-1]).logits if len(steps) > 1 else None
            clicks = [(step.point, step.label) for step in steps if step.point is not None]
            boxes = [step.box for step in steps if step.box is not None]
            found = seat.predictor.predict(
                points=[[point for point, _ in clicks]] if clicks else None,
                labels=[[label for _, label in clicks]] if clicks else None,
                boxes=[boxes[-1]] if boxes else None,
                masks=before,
                image=image,
            )
            return _Found(found.logits, lengths_of(found.masks[0, 0].cpu()), float(found.iou[0, 0]))

        return _kept(self._answers, (seat.name, seat.number, index, steps), ask, _ANSWERS)

    def _encoded(self, seat: _Seat, index: int, read: Callable[[], ImageLike]) -> EncodedImages:
        key = (seat.encoder, index)
        if (found := self._image(key)) is None:
            with self._encoding:  # clicks on an image that is encoded are answered meanwhile
                if (found := self._image(key)) is None:
                    found = seat.predictor.encode([read()])
                    with self._lock:
                        _kept(self._images, key, lambda: found, _IMAGES)
        return found

    def _image(self, key: tuple[str, int]) -> EncodedImages | None:
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def _seats(self) -> list[_Seat]:
        return [self._untuned] if self._tuned is None else [self._untuned, self._tuned]

    def _seat(self, name: str, number: int, model: ImageModel) -> _Seat:
        return _Seat(name, number, Predictor(model, tones=self.tones), _encoder_hash(model))


def _kept(store: OrderedDict[K, V], key: K, make: Callable[[], V], most: int) -> V:
    """Return what is kept under a key, or make and keep it; what was not asked for longest is dropped."""
    if key not in store:
        store[key] = make()
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)
    return store[key]


def _encoder_hash(model: ImageModel) -> str:
    """Return what models have in common that encode images alike: a frozen encoder works once for both."""
    digest = hashlib.blake2b(f"{type(model).__name__} {model.preprocessing}".encode(), digest_size=16)
    for tensor in (*model.encoding_parameters(), *model.image_encoder.buffers()):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
