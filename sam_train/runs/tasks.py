"""What a run does differently on images and on clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sam_train.data.loading.datamodule import ClipData, Loading
from sam_train.data.sources.base import DataSource, ImageSet, Split
from sam_train.data.sources.video.clips import Clip
from sam_train.errors import InputError
from sam_train.metrics import METRICS
from sam_train.metrics.base import Metric
from sam_train.metrics.video import VIDEO_METRICS
from sam_train.models import ImageModel
from sam_train.models.sam2.sam2 import Sam2
from sam_train.preprocessing import Preprocessing
from sam_train.runs.settings import Settings
from sam_train.tasks.center_training import CenterLearner, new_head
from sam_train.tasks.clip_training import ClipTraining
from sam_train.tasks.image import ImageTask
from sam_train.tasks.video import VideoTask


def known_metrics(task: ClipTraining | None) -> tuple[Metric, ...]:
    """Return the metrics of the package that fit the task."""
    return METRICS if task is None else (*VIDEO_METRICS, *METRICS)


def make_task(
    settings: Settings, model: ImageModel, record: dict[str, Any], keep_base: bool, metrics: Sequence[Metric]
) -> ImageTask:
    """Return what is trained, on images or on clips. The record says which categories there are, if a head finds them.

    Raises:
        InputError: If a model without a memory is to follow objects.
    """
    if settings.task is None:
        prompter = None
        if settings.prompter is not None:
            head = new_head(model, record["categories"], settings.seed)
            prompter = CenterLearner(head, settings.prompter, model.preprocessing.image_size)
        common = (settings.loss, settings.optim, record, keep_base, metrics)
        return ImageTask(model, settings.prompts, *common, prompter=prompter)
    return VideoTask(
        require_memory(model, settings.model.preset),
        settings.task,
        settings.loss,
        settings.optim,
        record,
        keep_base,
        metrics,
    )


def require_memory(model: ImageModel, name: str) -> Sam2:
    """Return the model, if it has a memory.

    Raises:
        InputError: If it has none.
    """
    if not isinstance(model, Sam2) or model.config.version is None:
        raise InputError(f"task=video: {name} has no memory and follows nothing; use SAM 2 or sam2_nano")
    return model


def clip_data(
    splits: Mapping[Split, ImageSet], preprocessing: Preprocessing, loading: Loading, seed: int, task: ClipTraining
) -> ClipData:
    """Make the loaders of clips.

    Raises:
        InputError: If the data are images.
    """
    choice = task.choice(loading.max_objects or DataSource.default_objects)
    return ClipData(splits, preprocessing, loading, seed, choice, task.max_val_clips, task.max_val_frames)


def require_whole_clips(splits: Mapping[Split, ImageSet]) -> None:
    """Refuse clips of which a part is to train and a part is not: what lies between would be in both.

    Raises:
        InputError: If there is one.
    """
    train = {clip.name for clip in _clips(splits["train"])}
    for split, images in splits.items():
        if split != "train" and (both := sorted(train & {clip.name for clip in _clips(images)})):
            raise InputError(
                f"task=video: slices of {both[0]} are in train and in {split}, since it is of the only patient, and "
                "objects are followed through whole volumes; give volumes of other patients, or train on slices "
                "without task=video"
            )


def _clips(images: ImageSet) -> Sequence[Clip]:
    clips = images.as_clips()
    return () if clips is None else clips.clips
