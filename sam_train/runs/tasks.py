"""What a run does differently on images and on clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sam_train.data.loading.clip_data import ClipData
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.base import DataSource, ImageSet, Split
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


def require_images_teach(data: ClipData, task: ClipTraining, model: ImageModel) -> None:
    """Refuse images among clips where nothing would be learned from them.

    Raises:
        InputError: If there are such.
    """
    names = ", ".join(data.images("train"))
    if names and not task.point + task.box:
        raise InputError(
            f"task.point=0 task.box=0: nothing is learned from images ({names}) whose masks are given; give points or "
            "boxes more than 0, or leave these sources out"
        )
    if names and not any(parameter.requires_grad for part in model.parts for parameter in part.parameters()):
        raise InputError(
            f"tuning: the memory alone trains, which images ({names}) do not use; add tuning.mask_decoder=true, or "
            "leave these sources out"
        )


def require_whole_clips(splits: Mapping[Split, ImageSet]) -> None:
    """Refuse clips of which a part is to train and a part is not: what lies between would be in both.

    Raises:
        InputError: If there is one.
    """
    train = _clip_names(splits["train"])
    for split, images in splits.items():
        if split != "train" and (both := sorted(train & _clip_names(images))):
            raise InputError(
                f"task=video: slices of {both[0]} are in train and in {split}, since it is of the only patient, and "
                "objects are followed through whole volumes; give volumes of other patients, or train on slices "
                "without task=video"
            )


def _clip_names(images: ImageSet) -> set[str]:
    sources = images.by_source() or {"": images}
    found = {name: clips for name, one in sources.items() if (clips := one.as_clips()) is not None}
    return {f"{name}/{clip.name}".lstrip("/") for name, clips in found.items() for clip in clips.clips}
