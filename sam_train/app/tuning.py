"""Tuning on what was accepted so far, beside the page."""

from __future__ import annotations

import json
import math
import shutil
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.base import DataSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.image_files import PLAIN
from sam_train.data.sources.tones import Tones
from sam_train.errors import InputError
from sam_train.files import write_json
from sam_train.prompts.simulator import PromptSimulator
from sam_train.runs.fit import default_callbacks, fit
from sam_train.runs.run import Run
from sam_train.runs.settings import Cache, Evaluation, ModelChoice, Settings
from sam_train.runs.watching import Watch
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import Tuning

FEWEST = 2
"""Accepted images to tune on: one to learn from, one to see by whether it helps."""
SHARES = (0.8, 0.2, 0.0)
"""Of accepted images: what trains, and what chooses the best step and draws the curve."""
_CURVE = 3  # validations, and one before the first step
_VALIDATED = 10  # images
_OBJECTS = 8  # of an image in one step: half of the usual, for a minute on a laptop
_VIEWS = 4  # of each image, augmented and encoded once
_CURRENT = "current.json"


def source_of(folder: Path, tones: Tones = PLAIN) -> FolderSource:
    """Return what was accepted as data to tune on.

    Args:
        folder: Of labels.
        tones: How stored numbers become 8 bits, as on the page.
    """
    return FolderSource(
        str(folder),
        background=0,
        split=SHARES,
        check=False,
        channels=tones.channels,
        window=tones.windows or None,
        percentiles=tones.percentiles,
    )


Gain = tuple[float, float]
"""Mean IoU on the accepted images that do not train, of a box, one click and five clicks: before, and at its best."""
State = Literal["idle", "running", "done", "failed"]


@dataclass(frozen=True)
class Recipe:
    """How the button tunes.

    Attributes:
        model: What is tuned.
        steps: Of training.
        device: ``cpu``, or None for the first GPU or else the CPU.
    """

    model: ModelChoice = field(default_factory=ModelChoice)
    steps: int = 60
    device: str | None = None

    def settings(self, source: DataSource, embeddings: Path) -> Settings:
        """Return a run's settings: the decoder trains on a frozen encoder's features, which are computed once.

        Args:
            source: What was accepted.
            embeddings: Where features are kept.
        """
        trainer = {
            "max_steps": self.steps,
            "val_check_interval": max(self.steps // _CURVE, 1),
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            **({"accelerator": "cpu"} if self.device == "cpu" else {}),
        }
        return Settings(
            data=source,
            model=self.model,
            tuning=Tuning("frozen"),
            prompts=PromptSimulator(box=1, center=3, corrections=6, correct_at="center"),
            optim=Optimization(lr=3e-4),
            loader=Loading(max_objects=_OBJECTS, max_val_images=_VALIDATED, augmentation=Augmentation(), num_workers=0),
            trainer=trainer,
            evaluation=Evaluation(split="val"),
            cache=Cache(str(embeddings), views=_VIEWS),
        )


@dataclass
class Progress:
    """How tuning goes.

    Attributes:
        state: What is going on.
        images: Number of accepted images that are tuned on.
        steps: Of the whole training.
        loss: Step and loss, step by step.
        iou: Step and mean IoU on the accepted images that do not train; the first is that of the untuned model.
        message: What went wrong.
    """

    state: State = "idle"
    images: int = 0
    steps: int = 0
    loss: list[tuple[int, float]] = field(default_factory=list)
    iou: list[tuple[int, float]] = field(default_factory=list)
    message: str = ""

    @property
    def gain(self) -> Gain | None:
        """What this run gains; None before the first comparison."""
        (_, before), *after = self.iou or [(0, 0.0)]
        return (before, max(value for _, value in after)) if after else None

    def tell(self, what: str, step: int, value: float) -> None:
        """Take a value of a curve; one that is no number, as the IoU of no objects, is not shown."""
        if not math.isfinite(value):
            return
        (self.loss if what == "loss" else self.iou).append((step, value))


class Tuned(NamedTuple):
    """What tuning came to.

    Attributes:
        run: The run.
        number: That it is known by.
        gain: On images that did not train; None where there were none to compare on.
    """

    run: Run
    number: int
    gain: Gain | None

    @property
    def is_no_better(self) -> bool:
        """Whether the untuned model was as good on images that did not train."""
        return self.gain is not None and self.gain[1] <= self.gain[0]


class Tuner:
    """Tunes in the background, one run after the other.

    Args:
        folder: For the runs, each in a folder of its number.
        recipe: How.
        source: Returns what was accepted.
        take: Is given what it came to when it is done.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, source: Callable[[], DataSource], take: Callable[[Tuned], None]
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.progress = Progress()
        self._source = source
        self._take = take
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, images: int) -> None:
        """Begin.

        Args:
            images: Number of accepted images.

        Raises:
            InputError: If there are too few, or tuning is going on.
        """
        if images < FEWEST:
            raise InputError(f"tuning needs at least {FEWEST} accepted images; there are {images}")
        with self._lock:
            if self.progress.state == "running":
                raise InputError("tuning is going on; its curve is on the page")
            self.progress = Progress("running", images, self.recipe.steps)
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="tuning", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the step that is going on, with the best model so far."""
        self._stop.set()

    def wait(self) -> None:
        """Return when nothing is going on."""
        if self._thread is not None:
            self._thread.join()

    def current(self) -> Tuned | None:
        """Return what the last finished tuning came to, also of an earlier server; None if there is none."""
        mark = self.folder / _CURRENT
        if not mark.is_file():
            return None
        found = json.loads(mark.read_text(encoding="utf-8"))
        number, gain = found["number"], found.get("gain")
        return Tuned(Run.load(self.folder / str(number)), number, gain and tuple(gain))

    def _run(self) -> None:
        progress = self.progress
        try:
            number = self._next_number()
            folder = self.folder / str(number)
            settings = self.recipe.settings(self._source(), self.folder / "embeddings")
            watch = Watch(progress.tell, self._stop.is_set)
            warnings.filterwarnings("ignore", ".*no images for the test")  # what is tuned here is judged on the page
            run = fit(settings, folder, [*default_callbacks(folder, shows_progress=False), watch])
            self._take(Tuned(run, number, progress.gain))
            write_json(self.folder / _CURRENT, {"number": number, "gain": progress.gain})
        except Exception as error:  # whatever it is, the person at the page is told
            progress.message = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            progress.state = "failed"
        else:
            progress.state = "done"

    def _next_number(self) -> int:
        """Return the number of a new run; folders of runs that were interrupted are removed."""
        current = self.folder / _CURRENT
        last = json.loads(current.read_text(encoding="utf-8"))["number"] if current.is_file() else 0
        if (folder := self.folder / str(last + 1)).exists():
            shutil.rmtree(folder)
        return last + 1
