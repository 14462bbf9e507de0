"""What is found in held-out clips, compared with the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.inference.following import Followed, follow_clip
from sam_train.inference.video_session import FrameMasks
from sam_train.metrics.base import MaskPairs, Metric
from sam_train.metrics.rle import Rle, decode_mask, encode_mask
from sam_train.metrics.table import column_of
from sam_train.metrics.volume import TOLERANCE, VolumeScore
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.prompts.protocols import Protocol
from sam_train.structures import Sample

if TYPE_CHECKING:
    import pyarrow as pa

VOLUME_SCORES = ("dice", "nsd", "hd95")
"""Of an object through a volume, as columns ``<model>_volume_<score>``."""


@torch.no_grad()
def score_clip(
    models: Mapping[str, TrackingModel],
    clip: HeldOutClip,
    protocols: Mapping[str, Protocol],
    metrics: Sequence[Metric],
) -> pa.Table:
    """Score every object of a clip by every protocol.

    An object's score is the mean over the annotated frames other than the one it was prompted on, in a video without
    the last frame, as the DAVIS challenges have it. Objects without such a frame have no row. Of a volume, slices that
    hold the object neither in truth nor as found do not count: a model that finds nothing anywhere would seem good.

    Returns:
        One row for each object and protocol, see :mod:`sam_train.metrics.table`: ``image`` is the clip, ``group`` the
        clip or the patient, ``frames`` the number of frames that count. Of volumes also 3D scores over all slices.
    """
    import pyarrow as pa

    scores: dict[tuple[str, int, str], list[list[float]]] = {}
    idle: dict[tuple[str, int, str], list[list[float]]] = {}
    volumes: dict[tuple[str, int, str], _Masks] = {}
    categories: dict[int, str] = {}
    last = None if clip.is_volume or len(clip.frames) <= 2 else clip.frames[-1]
    for followed in follow_clip(models, clip, protocols):
        categories |= dict(zip(followed.sample.value.tolist(), followed.sample.category or (), strict=False))
        for protocol, value, name, pair in _pairs(followed):
            key = protocol, value, name
            if clip.is_volume:
                volumes.setdefault(key, _Masks()).add(followed.frame, pair)
            if value not in followed.prompted and followed.frame != last:
                found = [float(metric(pair)[0]) for metric in metrics]
                is_idle = clip.is_volume and not (pair.predicted.any() or pair.truth.any())
                (idle if is_idle else scores).setdefault(key, []).append(found)
    columns: dict[str, list[object]] = {}
    objects = sorted({(protocol, value) for protocol, value, _ in [*scores, *idle]})
    for protocol, value in objects:
        row: dict[str, object] = {"image": clip.name, "object": value, "prompt": protocol, "group": clip.group}
        row["category"] = categories.get(value)
        for name in models:
            key = protocol, value, name
            row["frames"] = len(scores.get(key, ())) + len(idle.get(key, ()))
            of_model = scores.get(key) or idle[key]
            for metric, values in zip(metrics, zip(*of_model, strict=True), strict=True):
                row[column_of(metric, name)] = sum(values) / len(values)
            if clip.is_volume:
                found = volumes[protocol, value, name].scores(clip.spacing)
                row |= {volume_column(score, name): number for score, number in found.items()}
        for column, content in row.items():
            columns.setdefault(column, []).append(content)
    return pa.table(columns)


def volume_column(score: str, model: str) -> str:
    """Name of the column that holds a 3D score of a model."""
    return f"{model}_volume_{score}" if model else f"volume_{score}"


def _pairs(followed: Followed) -> Iterator[tuple[str, int, str, MaskPairs]]:
    """Yield protocol, object, model and masks of what is followed on a frame whose truth is known."""
    if followed.is_known:
        for (name, protocol), found in followed.found.items():
            for value, pair in frame_pairs(found, followed.sample):
                yield protocol, value, name, pair


def frame_pairs(found: FrameMasks, sample: Sample) -> Iterator[tuple[int, MaskPairs]]:
    """Yield each object and its masks on a frame whose truth is known."""
    for value, mask in zip(found.objects, found.masks, strict=True):
        assert isinstance(value, int)
        truth = _truth(sample, value)
        yield value, MaskPairs(mask.to(truth.device)[None], truth[None])


class _Masks:
    """Masks of an object through a volume, predicted and true, in any order of the slices; as run lengths."""

    def __init__(self) -> None:
        self.slices: dict[int, tuple[Rle, Rle]] = {}

    def add(self, place: int, pair: MaskPairs) -> None:
        self.slices[place] = encode_mask(pair.predicted[0].numpy()), encode_mask(pair.truth[0].numpy())

    def scores(self, spacing: tuple[float, float, float] | None) -> dict[str, float]:
        score = VolumeScore(spacing or (1.0, 1.0, 1.0))
        for place in range(min(self.slices), max(self.slices) + 1):
            some = self.slices.get(place)
            empty = np.zeros(next(iter(self.slices.values()))[0]["size"], bool)
            score.add(*(decode_mask(rle) for rle in some)) if some else score.add(empty, empty)
        return {"dice": score.dice(), "nsd": score.nsd(TOLERANCE), "hd95": score.hd95()}


def _truth(sample: Sample, value: int) -> Bool[Tensor, "h w"]:
    """Return an object's mask on a frame, empty where the object is absent."""
    rows = (sample.value == value).nonzero()[:, 0]
    return next(sample.keep(rows).each_mask()) if len(rows) else torch.zeros(sample.size, dtype=torch.bool)
