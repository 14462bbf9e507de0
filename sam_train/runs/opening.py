"""Models by whatever a person has: a run, a checkpoint of Meta or Hugging Face, or a preset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sam_train.checkpoints import load_checkpoint
from sam_train.checkpoints.reading import SHIPPED, read_checkpoint
from sam_train.checkpoints.report import find_preset
from sam_train.checkpoints.tones_file import KEYS, read_tones
from sam_train.data.sources.base import DataSource
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.several import SeveralSources
from sam_train.data.sources.tones import PERCENTILES, WINDOWS, Tones, known_tones, tones_of, window_of
from sam_train.data.sources.volume.cases import read_description
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import InputError
from sam_train.inference.center_finder import CenterFinder
from sam_train.inference.finder import Finder, Tiling
from sam_train.inference.mask_generator import Everything
from sam_train.inference.predictor import Predictor
from sam_train.inference.regions import Cleaning
from sam_train.inference.volumes import View
from sam_train.models import PRESETS, ImageModel, build_model
from sam_train.runs.record import describe
from sam_train.runs.run import Run

_VOLUMES = describe(VolumeSource("."))["_target_"]


def open_model(
    checkpoint: str | Path,
    weights: str | None = None,
    image_size: int | None = None,
    device: torch.device | str | None = None,
) -> ImageModel:
    """Return a model in evaluation mode.

    Args:
        checkpoint: A run's folder or .ckpt file (its tuned model); a .pth or .safetensors file, a Hugging Face folder
            or a hub id, of which the preset is recognized; or the name of a preset.
        weights: Where a run's base weights are now, if they have moved; of a preset without weights of its own, its
            weights.
        image_size: Side of the model's input; by default the run's own, or the preset's.
        device: By default the first GPU, or else the CPU.

    Raises:
        InputError: If there is no such checkpoint, or it is of no model here.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    path, name = Path(checkpoint).expanduser(), str(checkpoint)
    if path.is_dir() and is_run(path):
        model = _of_run(path, weights, image_size)
    elif name in PRESETS and not path.exists():
        model = _of_preset(name, weights, image_size)
    elif "sam_train" in (found := read_checkpoint(name)).content:
        model = _of_run(path, weights, image_size)
    else:
        model = build_model(find_preset(found), image_size)
        load_checkpoint(model, name)
    return model.to(device).eval()


def open_both(
    checkpoint: str | Path,
    weights: str | None = None,
    image_size: int | None = None,
    device: torch.device | str | None = None,
) -> tuple[ImageModel, ImageModel | None]:
    """Return the untuned and the tuned model of a run, or else :func:`open_model`'s and None."""
    path = Path(checkpoint).expanduser()
    model = open_model(checkpoint, weights, image_size, device)
    if not is_run(path):
        return model, None
    return Run.load(path, weights).untuned().to(next(model.parameters()).device), model


def open_predictor(
    checkpoint: str | Path,
    weights: str | None = None,
    image_size: int | None = None,
    device: torch.device | str | None = None,
    cleaning: Cleaning | None = None,
) -> Predictor:
    """Return :func:`open_model`'s model, ready to be given images and prompts; images are shown as in training."""
    return Predictor(open_model(checkpoint, weights, image_size, device), cleaning, image_tones(checkpoint))


def image_tones(
    checkpoint: str | Path, window: str | Sequence[float] | None = None, channels: Sequence[int] = ()
) -> Tones:
    """Return how stored numbers of images become 8 bits: as in the run's training, or as an export says.

    Args:
        checkpoint: See :func:`open_model`.
        window: Name or ends of a window, if not the run's own.
        channels: Numbers of the bands that are shown, if not the run's own.

    Raises:
        InputError: If there is no such window, or these are no bands.
    """
    path = Path(checkpoint).expanduser()
    if is_run(path):
        data = shown_alike(Run.load(path).record["config"]["data"])
        tones = Tones() if data.get("_target_") == _VOLUMES else known_tones(data)
    else:
        tones = known_tones(read_tones(path))
    own = tones_of(channels, window, None)
    return replace(tones, channels=own.channels or tones.channels, windows=own.windows or tones.windows)


def as_in_training(source: DataSource, checkpoint: str | Path) -> DataSource:
    """Return a source of images that are shown as in a run's training, where its settings do not say how.

    Percentiles of a set that its settings ask for are those of its own training images.

    Args:
        source: Of images; one whose images are always of 8 bits is returned as it is.
        checkpoint: See :func:`open_model`.
    """
    if isinstance(source, SeveralSources):
        return replace(source, parts={name: as_in_training(part, checkpoint) for name, part in source.parts.items()})
    tones = image_tones(checkpoint)
    is_open = isinstance(source, PixelSource) and not isinstance(source, VolumeSource) and source.tones() == Tones()
    if not is_open or tones == Tones():
        return source.settled()
    assert isinstance(source, PixelSource)
    return replace(source, channels=tones.channels, window=tones.windows or None, percentiles=tones.percentiles)


def open_finder(
    checkpoint: str | Path,
    weights: str | None = None,
    image_size: int | None = None,
    device: torch.device | str | None = None,
    cleaning: Cleaning | None = None,
    grid: Everything | None = None,
    tiling: Tiling | None = None,
    min_score: float = 0.0,
) -> Finder:
    """Return what finds objects in whole images: see :func:`open_model`, :class:`Finder` and its ``find``."""
    predictor = open_predictor(checkpoint, weights, image_size, device, cleaning)
    path, center = Path(checkpoint).expanduser(), None
    if is_run(path):
        run = Run.load(path, weights)
        if (head := run.head()) is not None and run.categories is not None:
            center = CenterFinder(predictor, head, run.categories)
    return Finder(predictor, grid, tiling, min_score, center)


def found_categories(checkpoint: str | Path) -> tuple[str, ...] | None:
    """Return the names of what a checkpoint's head finds without a prompt; None if it has no head."""
    path = Path(checkpoint).expanduser()
    return Run.load(path).categories if is_run(path) else None


def volume_view(checkpoint: str | Path, window: str | Sequence[float] | None = None) -> View:
    """Return how volumes are looked at: as in the run's training, if it was trained on volumes.

    Args:
        checkpoint: See :func:`open_model`.
        window: Name or ends of a window of gray values, if not the run's own.

    Raises:
        InputError: If there is no such window, or the run was trained on three channels of volumes.
    """
    path = Path(checkpoint).expanduser()
    chosen = None if window is None else window_of(window)
    data = Run.load(path).record["config"]["data"] if is_run(path) else {}
    roots = [Path(part["root"]) for part in data.get("parts", {"": data}).values() if "root" in part]
    data = shown_alike(data)
    if data.get("_target_") != _VOLUMES:
        return View(window=chosen)
    if len(data.get("channels") or ()) == 3:
        raise InputError(
            f"checkpoint={checkpoint}: trained on the channels {data['channels']} of volumes; give slices as RGB images"
        )
    tones = known_tones(data)
    chosen = chosen or tones.window(0)
    if chosen is None and all(root.is_dir() and read_description(root).is_ct for root in roots):
        chosen = WINDOWS["soft_tissue"]
    ends = tones.percentiles or PERCENTILES
    return View(data.get("axis", "axial"), chosen, ends, data.get("neighbors", False))


def shown_alike(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a run's data; of several sources those that all have in common.

    It warns where sources say in different ways how they are shown: then nothing is known of new images.
    """
    first, *others = data.get("parts", {"": data}).values()
    common = {name: value for name, value in first.items() if all(part.get(name) == value for part in others)}
    differing = [key for key in KEYS if any((part.get(key) or None) != (first.get(key) or None) for part in others)]
    if not differing:
        return {**{key: first.get(key) for key in KEYS}, **common}
    text = f"sources of the training data differ in data.{' and data.'.join(differing)}"
    warnings.warn(f"{text}; new images are shown as if none had said any of {', '.join(KEYS)}", stacklevel=2)
    return {name: value for name, value in common.items() if name not in KEYS}


def is_run(path: Path) -> bool:
    """Tell whether a path is of a run or one of its checkpoints."""
    if path.is_dir():
        return any((path / file).is_file() for file in ("best.ckpt", "last.ckpt"))
    return path.suffix == ".ckpt" and path.is_file() and "sam_train" in read_checkpoint(path).content


def checkpoint_files(checkpoint: str | Path) -> tuple[Path, ...]:
    """Return the files that a model is read from, as far as they are on this machine and not the package's own."""
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return (Run.load(path).checkpoint,) if is_run(path) else tuple(sorted(path.glob("*model*.*")))
    return (path,) if path.is_file() else ()


def _of_run(path: Path, weights: str | None, image_size: int | None) -> ImageModel:
    if image_size is not None:
        raise InputError(f"image_size={image_size}: a run's model keeps the size that it was tuned at; leave it out")
    return Run.load(path, weights).tuned()


def _of_preset(name: str, weights: str | None, image_size: int | None) -> ImageModel:
    if weights is None and name not in SHIPPED:
        raise InputError(
            f"checkpoint={name}: this preset comes without weights; name its file, Hugging Face folder or hub id, "
            f"from which the preset is recognized. With weights of their own: {', '.join(SHIPPED)}"
        )
    model = build_model(name, image_size)
    load_checkpoint(model, weights or name)
    return model
