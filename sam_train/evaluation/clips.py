"""Held-out clips scored by every model, and films of the first of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.progress import Progress

from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.evaluation.comparison import Scored, of_all_processes
from sam_train.files import written_whole
from sam_train.inference.clip_correcting import CLICKS, correct_clip
from sam_train.inference.clip_scoring import VOLUME_SCORES, score_clip, volume_column
from sam_train.inference.film import film_frames, save_film, strip_of
from sam_train.inference.following import MASK
from sam_train.inference.scoring import score_batch
from sam_train.metrics.base import Metric
from sam_train.metrics.table import gather_rows
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.prompts.protocols import Protocol
from sam_train.structures import Batch

if TYPE_CHECKING:
    import pyarrow as pa

_VOLUMES_BY = "box"  # kind of prompt: a mask would give a slice away


def score_clips(
    models: Mapping[str, TrackingModel],
    clips: Iterable[HeldOutClip | Batch],
    num_clips: int,
    protocols: Mapping[str, Protocol],
    metrics: Sequence[Metric],
    progress: Progress,
    corrected_frames: int = 0,
) -> Scored:
    """Score every object of this process's share of the clips; every process gets the rows of all.

    With ``corrected_frames``, rows of clicks have the curve of :func:`correct_clip`, too. Images among the clips are
    scored by the protocols that do not give the masks.
    """
    device = next(next(iter(models.values())).parameters()).device
    for_images = {name: protocol for name, protocol in protocols.items() if name != MASK}
    rounds = corrected_frames * len(models)
    bar = progress.add_task(f"following objects with {' and '.join(models)}", total=num_clips * (1 + rounds))
    tables, too_small = [], dict[str, int]()
    for clip in clips:
        if isinstance(clip, Batch):
            too_small |= zip(clip.ids, clip.num_too_small or (), strict=True)
            tables.append(score_batch(models, clip.to(device), for_images, metrics))
            progress.advance(bar, 1 + rounds)
            continue
        table = score_clip(models, clip, protocols, metrics)
        if clip.source and table.num_rows:
            table = table.append_column("source", [[clip.source] * table.num_rows])
        progress.advance(bar)
        for name, model in models.items() if corrected_frames and table.num_rows else ():
            curves = correct_clip(model, clip, corrected_frames, lambda: progress.advance(bar))
            table = table.append_column(curve_column(name), [_of_rows(table, curves)])
        tables.append(table)
    return Scored(gather_rows(tables), sum(of_all_processes(too_small).values()))


def curve_column(model: str) -> str:
    """Name of the column that holds J&F after clicks on one frame, two frames, and so on."""
    return f"{model}_j_and_f_by_frame"


def _of_rows(table: pa.Table, curves: Mapping[int, list[float]]) -> pa.Array:
    import pyarrow as pa

    keys = zip(table.column("prompt").to_pylist(), table.column("object").to_pylist(), strict=True)
    return pa.array([curves[value] if prompt == "clicks" else None for prompt, value in keys], pa.list_(pa.float64()))


def mean_curves(rows: pa.Table, models: Sequence[str]) -> dict[str, Any]:
    """Average the curves over objects; nothing where there are none.

    Returns:
        Of each model ``j_and_f`` after each frame with clicks; ``clicks`` on each of them.
    """
    found: dict[str, Any] = {}
    for model in models:
        column = curve_column(model)
        curves = [curve for curve in rows.column(column).to_pylist() if curve] if column in rows.column_names else []
        if curves:
            found[model] = {"j_and_f": [math.fsum(values) / len(values) for values in zip(*curves, strict=True)]}
    return {**found, "clicks": CLICKS} if found else {}


def mean_volumes(rows: pa.Table, models: Sequence[str]) -> dict[str, Any]:
    """Average the 3D scores of objects through volumes, followed from their boxes.

    Returns:
        As :func:`sam_train.evaluation.volumes.score_volumes`; nothing where clips are videos.
    """
    if volume_column("dice", models[0]) not in rows.column_names:
        return {}
    import pyarrow.compute as pc

    some = rows.filter((pc.field("prompt") == _VOLUMES_BY) & pc.field(volume_column("dice", models[0])).is_valid())
    found: dict[str, Any] = {
        model: {
            score: math.fsum(some.column(volume_column(score, model)).to_pylist()) / some.num_rows
            for score in VOLUME_SCORES
        }
        for model in models
    }
    volumes = set(some.column("image").to_pylist())
    return {**found, "num_objects": some.num_rows, "num_volumes": len(volumes), "prompt": _VOLUMES_BY}


def save_films(models: Mapping[str, TrackingModel], clips: Sequence[HeldOutClip], folder: Path) -> list[Path]:
    """Write a film and a strip of frames of each clip: truth beside what each model finds.

    Args:
        models: By name, in order.
        clips: The held-out clips.
        folder: Where the files go, numbered and named after the clips.
    """
    paths: list[Path] = []
    for index, clip in enumerate(clips):
        pictures = film_frames(models, clip)
        path = folder / f"{index:02d}_{Path(clip.name).name}"
        paths.append(save_film(pictures, path))
        paths.append(folder / f"{path.name}_strip.png")
        with written_whole(paths[-1]) as file:
            strip_of(pictures).save(file)
    return paths


def tracking(models: Mapping[str, object]) -> dict[str, TrackingModel]:
    """Return the models as what they are: each follows objects."""
    return {name: cast(TrackingModel, model) for name, model in models.items()}
