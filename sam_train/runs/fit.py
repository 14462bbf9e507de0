"""Fine-tuning from settings to a finished run."""

from __future__ import annotations

import logging
import math
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, Trainer
from rich.console import Console

from sam_train.checkpoints.reading import read_file
from sam_train.data.loading.boxes import categories_of
from sam_train.data.loading.clip_data import ClipData
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.skipping import begin_skipping, splits_of
from sam_train.data.sources.splits import SPLITS
from sam_train.errors import InputError
from sam_train.files import written_whole
from sam_train.metrics.base import find_metrics
from sam_train.preprocessing import Preprocessing
from sam_train.runs.given_prompts import tell_given
from sam_train.runs.known_images import known_images
from sam_train.runs.micro_batch import MicroBatchFinder
from sam_train.runs.record import VERSION, describe, versions
from sam_train.runs.resume import require_same, require_same_base, require_same_images
from sam_train.runs.run import Run, base_model, fingerprint, read_record, trains_memory, tuned_model
from sam_train.runs.settings import Settings
from sam_train.runs.tasks import clip_data, known_metrics, make_task, require_images_teach, require_whole_clips
from sam_train.runs.trainer import make_trainer, starts_processes
from sam_train.tasks.averaging import MovingAverage
from sam_train.tasks.callbacks import BestCheckpoint, LastValidation, RunProgress
from sam_train.tasks.clip_training import ClipTraining
from sam_train.tasks.feature_cache import FeatureCache
from sam_train.tasks.resume_point import STOP_SIGNALS, ResumePoint, in_main_thread
from sam_train.tuning.surgery import trained_table

log = logging.getLogger(__name__)


def fit(
    settings: Settings,
    folder: str | Path,
    callbacks: Sequence[Callback] | None = None,
    logger: Any = False,
    resume: bool = False,
    is_alone: bool = False,
) -> Run:
    """Fine-tune a model; leaves ``best.ckpt`` and ``last.ckpt`` in the folder.

    ``fit(Settings(FolderSource("polyps")), "runs/polyps")`` is what ``sam-train data=folder data.root=polyps`` does.
    On several devices every process calls this, as under Lightning's DDP.

    Args:
        settings: What to train, on what, and how.
        folder: Where checkpoints go.
        callbacks: What happens around the steps; by default those of :func:`default_callbacks`.
        logger: Of Lightning, beside the curves in the folder's ``metrics``; by default none.
        resume: Go on with the interrupted run in the folder.
        is_alone: Refuse devices that would need further processes, as within a sweep: each would begin it anew.

    Raises:
        InputError: If settings, data, weights or the run to go on with do not fit each other.
        DivergenceError: If the loss stops being a number.
    """
    folder = Path(folder).expanduser()
    settings = _resolved(replace(settings, data=settings.data.settled()))
    metrics = find_metrics(settings.evaluation.metrics, known_metrics(settings.task))
    shows_progress = settings.trainer.get("enable_progress_bar", True)
    given = default_callbacks(folder, shows_progress, settings.task) if callbacks is None else list(callbacks)
    trainer = make_trainer(settings.trainer, [*_own_callbacks(settings, given)], logger, folder)
    if is_alone and starts_processes(trainer):
        raise InputError(
            f"a sweep cannot train on {trainer.world_size} devices at once: each of its processes would begin the "
            "sweep anew. Give trainer.devices=1, or one command for each run"
        )
    record = _record(settings, trainer, given)
    where = f"resume={folder}"
    then = _begun(folder, record, where) if resume else None
    with _told_when_stopped(trainer):
        base = base_model(settings.model, settings.seed, trains_memory(record["config"]))
        record["base"] = fingerprint(base)
        if then is not None:
            require_same_base(then, record["base"], where)
        model = tuned_model(base, record["config"])
        needed: set[Split] = {"train", "val", settings.evaluation.split}
        data = make_data(settings, model.preprocessing, needed, folder, trainer, resume)
        record["images"] = known_images(data.splits) if trainer.is_global_zero else {}
        if then is not None:
            require_same_images(then["images"], record["images"], where)
        if settings.task is not None and isinstance(data, ClipData):
            require_images_teach(data, settings.task, model)
        if settings.prompter is not None:
            record["categories"] = [*categories_of(data.splits["train"])]
        torch.manual_seed(settings.seed)
        keep_base = settings.model.source() == "random"
        task = make_task(settings, model, record, keep_base, metrics)
        if trainer.is_global_zero:
            if settings.prompts.given and settings.task is None:
                _tell(tell_given(data.splits["train"]))
            Console().print(trained_table(model))
            _tell_data(data)
        if then is None:
            trainer.validate(task, data, verbose=False)
        trainer.fit(task, data, ckpt_path=folder / "last.ckpt" if resume else None, weights_only=True)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")  # without a BestCheckpoint nothing keeps it
    if best and settings.prompter is not None and model.num_frozen_steps() is None and trainer.is_global_zero:
        take_over_head(folder / "last.ckpt", Path(best))
    checkpoint = trainer.strategy.broadcast(str(best or folder / "last.ckpt"))  # where the first process wrote it
    return Run(Path(checkpoint), record, base, data, device=trainer.strategy.root_device)


def take_over_head(last: Path, best: Path) -> None:
    """Have the best checkpoint hold the head of the last step.

    Where features do not change, that head fits the best model as well, and has learned longest: which step was the
    best is a matter of masks from prompts alone.
    """
    if not last.is_file():
        return
    content, newer = read_file(best), read_file(last)["state_dict"]
    head = {name: value for name, value in newer.items() if name.startswith("prompter.")}
    with written_whole(best, durable=True) as temporary, temporary.open("wb") as file:
        torch.save({**content, "state_dict": {**content["state_dict"], **head}}, file)


def default_callbacks(folder: Path, shows_progress: bool = True, task: ClipTraining | None = None) -> list[Callback]:
    """Return what keeps the best checkpoint and one to go on from, and shows progress."""
    monitor = "val/iou" if task is None else "val/j_and_f"
    best = BestCheckpoint(folder, "best", monitor=monitor, enable_version_counter=False)
    return [best, ResumePoint(str(folder / "last.ckpt")), *([RunProgress()] if shows_progress else [])]


def make_data(
    settings: Settings,
    preprocessing: Preprocessing,
    needed: set[Split],
    folder: Path,
    trainer: Trainer | None = None,
    resume: bool = False,
) -> SegmentationData:
    """Make the loaders for a model; the first process checks the data for all.

    Args:
        settings: Of the run.
        preprocessing: Of the model.
        needed: Splits that must have images.
        folder: Of the run.
        trainer: Of the run.
        resume: Whether what the run has left out before stays so.

    Raises:
        InputError: If there is no such split as one that is needed, or something is wrong with the data.
    """
    splits = splits_of(settings.data, folder)
    require_splits(splits, needed)
    if trainer is None or trainer.is_global_zero:
        begin_skipping(splits, anew=() if resume else SPLITS)
        if settings.data.check:
            check_sources({name: splits[name] for name in splits if name in needed})
    if settings.task is None:
        with_boxes = settings.prompter is not None
        return SegmentationData(splits, preprocessing, settings.loader, settings.seed, with_boxes)
    data = clip_data(splits, preprocessing, settings.loader, settings.seed, settings.task)
    require_whole_clips(data.splits)
    return data


def require_splits(splits: Mapping[Split, ImageSet], needed: set[Split]) -> None:
    """Refuse data that lack images of a split.

    Raises:
        InputError: If there are none.
    """
    if missing := [name for name in sorted(needed) if name not in splits or not len(splits[name])]:
        have = ", ".join(f"{name} ({len(images)})" for name, images in splits.items())
        raise InputError(
            f"data: no images for {', '.join(missing)}; there are {have}. See data.split and evaluation.split"
        )


def _resolved(settings: Settings) -> Settings:
    """Fill in what depends on the kind of data."""
    trainer = dict(settings.trainer)
    if trainer.get("max_steps") is None:
        has_epochs = trainer.get("max_epochs") not in (None, -1)
        trainer["max_steps"] = -1 if has_epochs else settings.data.default_steps
    objects = settings.loader.max_objects or settings.data.default_objects
    return replace(settings, trainer=trainer, loader=replace(settings.loader, max_objects=objects))


def _own_callbacks(settings: Settings, given: Sequence[Callback]) -> Iterator[Callback]:
    """All callbacks of a run, in order."""
    yield LastValidation()
    yield from given
    if settings.cache is not None:
        cache = settings.cache
        yield FeatureCache(cache.folder, cache.views, cache.dtype)  # pyright: ignore[reportArgumentType]
    if settings.task is not None:
        if settings.prompter is not None:
            raise InputError("prompter=center: finds objects of images; leave it out with task=video")
        return
    assert settings.loader.max_objects is not None
    yield MicroBatchFinder(settings.loader, settings.loader.max_objects)


def _record(settings: Settings, trainer: Trainer, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """What checkpoints will say of the run; the base's hash and the images follow once they are read."""
    average = next((callback.decay for callback in callbacks if isinstance(callback, MovingAverage)), None)
    config = {**describe(settings), "average": average}
    best = next((callback for callback in callbacks if isinstance(callback, BestCheckpoint)), None)
    chosen_by = str(best.monitor).removeprefix("val/") if best else ""
    record = {"version": VERSION, "config": config, "versions": versions(), "devices": trainer.world_size}
    return {**record, "chosen_by": chosen_by}


def _begun(folder: Path, record: dict[str, Any], where: str) -> Mapping[str, Any]:
    """Read the record of the run to go on with, and take over what it decided."""
    if not (folder / "last.ckpt").is_file():
        raise InputError(f"{where}: no last.ckpt there; name the folder of an interrupted run")
    then = read_record(folder / "last.ckpt")
    require_same(then, record, where)
    record["horizon"] = then["horizon"]
    for name in ("micro_batch", "micro_objects"):
        if record["config"]["loader"][name] == "auto":  # or what this command says: it changes no gradient
            record[name] = then[name]
    steps = record["config"]["trainer"]["max_steps"]
    if steps > then["horizon"]:
        text = f"{where}: the learning rate ended at step {then['horizon']} and stays there until step {steps}"
        Console(soft_wrap=True, highlight=False).print(text, markup=False)
    return then


def _tell(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(text, markup=False)
    log.info(text)


def _tell_data(data: SegmentationData) -> None:
    """Say how many images there are for what, and if training validates some of them only."""
    if isinstance(data, ClipData):
        clips = {split: sum(len(one.clips) for one in data.clips(split).values()) for split in data.splits}
        images = {split: sum(len(one) for one in data.images(split).values()) for split in data.splits}
        _tell(_counted("clips", clips))
        if any(images.values()):
            _tell(_counted("images", images))
        return
    numbers = {split: len(images) for split, images in data.splits.items()}
    limit = data.loading.max_val_images
    some = f"; of val {limit} during training (loader.max_val_images)" if (limit or math.inf) < numbers["val"] else ""
    _tell(_counted("images", numbers) + some)


def _counted(word: str, numbers: Mapping[str, int]) -> str:
    return f"{word}: {', '.join(f'{number} {split}' for split, number in numbers.items())}"


@contextmanager
def _told_when_stopped(trainer: Trainer) -> Iterator[None]:
    """Have Ctrl-C and the end of a job before the first step end the program with a word.

    While steps are made, :class:`ResumePoint` has these signals.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if trainer.is_global_zero:
            sys.stderr.write("\nstopped before the first step; nothing to go on from: give the same command again\n")
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS} if in_main_thread() else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
