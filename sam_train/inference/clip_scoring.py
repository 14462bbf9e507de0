"""Held-out clips: objects are prompted where they first appear, followed to the end, and compared with the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from sam_train.data.loading.clip_dataset import HeldOutClip
from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.transforms import resize_sample
from sam_train.inference.video_session import FrameMasks, VideoSession, encode_frame
from sam_train.metrics.base import MaskPairs, Metric
from sam_train.metrics.table import column_of
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.prompts.protocols import Protocol
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import PointLabel, Sample

if TYPE_CHECKING:
    import pyarrow as pa

MASK = "mask"
"""Protocol of semi-supervised segmentation: the object's mask is given where the object first appears."""

CLIP_PROTOCOLS: Mapping[str, Protocol] = {
    MASK: Protocol(PromptSimulator(mask=1), "mask of its first frame"),
    "box": Protocol(PromptSimulator(box=1, box_noise=0), "box on its first frame"),
    "clicks": Protocol(PromptSimulator(center=1, corrections=2, correct_at="center"), "3 clicks on its first frame"),
}
"""What is said of an object where it first appears: its mask, its box, or three clicks. None draws at random."""


class Followed(NamedTuple):
    """A frame of a clip that models have seen.

    Attributes:
        frame: Index of the frame.
        sample: The frame and, where known, the truth.
        is_known: Whether the truth is known.
        found: By model and protocol.
    """

    frame: int
    sample: Sample
    is_known: bool
    found: Mapping[tuple[str, str], FrameMasks]


@torch.no_grad()
def follow_clip(
    models: Mapping[str, TrackingModel], clip: HeldOutClip, protocols: Mapping[str, Protocol]
) -> Iterator[Followed]:
    """Follow all objects of a clip, each from the first annotated frame it is on; frames are read and encoded once.

    Models that share an encoder in which nothing trains share its features.
    """
    sessions = {(name, protocol): VideoSession(model) for name, model in models.items() for protocol in protocols}
    encoders = {
        name: tuple(parameter.data_ptr() for parameter in model.encoding_parameters()) for name, model in models.items()
    }
    annotated = clip.annotated()
    for number, frame in enumerate(clip.frames):
        sample = clip.read(frame)
        encoded = {}
        for name, model in models.items():
            if encoders[name] not in encoded:
                encoded[encoders[name]] = encode_frame(model, sample.image)
        found = {}
        for (name, protocol), session in sessions.items():
            masks = session.see_features(encoded[encoders[name]], sample.size)
            if frame in annotated:
                new = [value for value in sample.value.tolist() if value not in session.objects]
                if new:
                    _prompt(session, number, sample, new, protocol, protocols[protocol].simulator)
                    masks = session.masks(number)
            found[name, protocol] = masks
        yield Followed(frame, sample, frame in annotated, found)


def _prompt(
    session: VideoSession, frame: int, sample: Sample, new: Sequence[int], protocol: str, simulator: PromptSimulator
) -> None:
    """Say of new objects on a frame what the protocol gives."""
    rows = torch.tensor([sample.value.tolist().index(value) for value in new])
    objects = sample.keep(rows)
    if protocol == MASK:
        for value, mask in zip(new, objects.each_mask(), strict=True):
            session.prompt(frame, value, mask=mask)
        return
    preprocessing = session.model.preprocessing
    for index, value in enumerate(new):
        one = resize_sample(objects.keep(torch.tensor([index])), preprocessing)
        if not one.areas().all():  # too thin for the model's input
            session.prompt(frame, value, mask=next(objects.keep(torch.tensor([index])).each_mask()))
            continue
        batch = to_batch(one, preprocessing, sample.size)
        scale = preprocessing.scale_points(torch.ones(2), sample.size)
        prompts = simulator.first(batch)
        said = 0
        for number in range(simulator.corrections + 1):
            points, labels = prompts.points[0, said:] / scale, prompts.labels[0, said:]
            given = labels != PointLabel.EMPTY
            session.prompt(frame, value, points[given], labels[given])
            said = prompts.points.shape[1]
            if number < simulator.corrections:
                prediction = session.prediction(value, frame).to("cpu")
                prompts = simulator.correct(batch, prompts, prediction, number)


@torch.no_grad()
def score_clip(
    models: Mapping[str, TrackingModel],
    clip: HeldOutClip,
    protocols: Mapping[str, Protocol],
    metrics: Sequence[Metric],
) -> pa.Table:
    """Score every object of a clip by every protocol.

    An object's score is the mean over the annotated frames after the one it was prompted on, without the clip's last
    frame, as the DAVIS challenges have it. Objects without such a frame have no row.

    Returns:
        One row for each object and protocol, see :mod:`sam_train.metrics.table`: ``image`` and ``group`` are the clip,
        ``frames`` is the number of frames that count.
    """
    import pyarrow as pa

    scores: dict[tuple[str, int, str], list[list[float]]] = {}
    known: set[int] = set()
    last = clip.frames[-1]
    for followed in follow_clip(models, clip, protocols):
        if followed.is_known and (followed.frame != last or len(clip.frames) <= 2):
            for value in known:
                truth = _truth(followed.sample, value)
                for (name, protocol), found in followed.found.items():
                    mask = found.masks[found.objects.index(value)].to(truth.device)
                    pair = MaskPairs(mask[None], truth[None])
                    lists = scores.setdefault((protocol, value, name), [[] for _ in metrics])
                    for of_metric, metric in zip(lists, metrics, strict=True):
                        of_metric.append(float(metric(pair)[0]))
        if followed.is_known:
            known.update(followed.sample.value.tolist())
    columns: dict[str, list[object]] = {}
    objects = sorted({(protocol, value) for protocol, value, _ in scores})
    for protocol, value in objects:
        row: dict[str, object] = {"image": clip.name, "object": value, "prompt": protocol, "group": clip.name}
        for name in models:
            of_model = scores[protocol, value, name]
            row["frames"] = len(of_model[0])
            for metric, values in zip(metrics, of_model, strict=True):
                row[column_of(metric, name)] = sum(values) / len(values)
        for column, content in row.items():
            columns.setdefault(column, []).append(content)
    return pa.table(columns)


def _truth(sample: Sample, value: int) -> Bool[Tensor, "h w"]:
    """Return an object's mask on a frame, empty where the object is absent."""
    rows = (sample.value == value).nonzero()[:, 0]
    return next(sample.keep(rows).each_mask()) if len(rows) else torch.zeros(sample.size, dtype=torch.bool)
