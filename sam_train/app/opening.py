"""From a person's folder and checkpoint to a page; what is wrong with them is told before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam_train.app.labeling import Labeling
from sam_train.app.models import Models
from sam_train.app.pictures import Picture
from sam_train.app.saving import SavedLabels
from sam_train.app.tuning import Recipe, Tuned, Tuner, source_of
from sam_train.checkpoints import save_checkpoint
from sam_train.checkpoints.reading import SHIPPED, read_checkpoint
from sam_train.checkpoints.report import find_preset
from sam_train.data.sources.base import DataSource
from sam_train.data.sources.tones import Tones
from sam_train.errors import InputError
from sam_train.models import ImageModel
from sam_train.runs.opening import image_tones, is_run, open_both
from sam_train.runs.run import Run, fingerprint
from sam_train.runs.settings import ModelChoice
from sam_train.tuning.lora import merged_state_dict


@dataclass(frozen=True)
class Opened:
    """A checkpoint as :func:`sam_train.runs.opening.open_model` takes it.

    Attributes:
        checkpoint: A run, weights or a preset.
        weights: Of a run's base, or of a preset.
        image_size: Side of the model's input.
        device: Of the models.
    """

    checkpoint: str
    weights: str | None = None
    image_size: int | None = None
    device: str | None = None

    def choice(self, model: ImageModel, folder: Path) -> ModelChoice:
        """Return what tuning starts from: the model that was opened, which of a run is the tuned one.

        Args:
            model: As it was opened.
            folder: Where the weights of a run are written for that, its adapters merged.
        """
        size = model.preprocessing.image_size
        if is_run(Path(self.checkpoint).expanduser()):
            preset = Run.load(self.checkpoint, self.weights).model.preset
            path = folder / f"base-{fingerprint(model)[:16]}.pth"  # runs that began from another one keep theirs
            if not path.is_file():
                save_checkpoint(model, path, "meta", merged_state_dict(model))
            return ModelChoice(preset, str(path), size)
        if self.checkpoint in SHIPPED and not Path(self.checkpoint).exists():
            return ModelChoice(self.checkpoint, self.weights, size)
        return ModelChoice(find_preset(read_checkpoint(self.checkpoint)), self.checkpoint, size)


def open_labeling(
    pictures: Sequence[Picture],
    notes: Sequence[str],
    saved: SavedLabels,
    opened: Opened,
    steps: int,
    categories: Sequence[str] = (),
    tones: Tones | None = None,
) -> Labeling:
    """Load the models and put everything together.

    Args:
        pictures: The images.
        notes: What the person should know of them.
        saved: Labels of earlier times.
        opened: The checkpoint.
        steps: Of training each time.
        categories: Names of objects that the page offers.
        tones: How stored numbers of the images become 8 bits; None for as in the run's training.

    Raises:
        InputError: If there is no such checkpoint.
    """
    untuned, tuned = open_both(opened.checkpoint, opened.weights, opened.image_size, opened.device)
    shown = image_tones(opened.checkpoint) if tones is None else tones
    models = Models(untuned, tuned, shown)
    folder = saved.folder / "tuned"
    choice = opened.choice(tuned or untuned, folder)

    def source() -> DataSource:
        return source_of(saved.folder, shown)

    def take(tuned: Tuned) -> None:
        models.take(tuned.run.tuned(), tuned.number, tuned.is_no_better)

    tuner = Tuner(folder, Recipe(choice, steps, opened.device), source, take)
    told = [*notes, *_take_earlier(tuner, choice, take)]
    return Labeling(pictures, models, saved, tuner, categories, told)


def _take_earlier(tuner: Tuner, choice: ModelChoice, take: Callable[[Tuned], None]) -> list[str]:
    """Go on with the model that an earlier server has tuned, if it started from the same; return what to note."""
    try:
        found = tuner.current()
        if found is None:
            return []
        run = found.run
        if replace(run.model, image_size=None) != replace(choice, image_size=None):
            return [f"{run.folder}: tuned from {run.model.preset}, which is not what is open now; not used"]
        take(found)
    except InputError as error:
        return [f"the model tuned earlier is not used: {error}"]
    return []
