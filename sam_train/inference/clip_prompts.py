"""What a person says of an object on a frame of a clip whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import torch

from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.transforms import resize_sample
from sam_train.inference.video_session import VideoSession
from sam_train.models.sam2.tracking import TrackingModel
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import Batch, PointLabel, Prompts, Sample


def give_mask(session: VideoSession, frame: int, sample: Sample, value: int) -> None:
    """Give an object's mask."""
    (row,) = (sample.value == value).nonzero()[:, 0]
    session.prompt(frame, value, mask=next(sample.keep(row[None]).each_mask()))


def prompt_object(session: VideoSession, frame: int, sample: Sample, value: int, person: PromptSimulator) -> None:
    """Give an object for the first time, and correct what is found as often as the person does.

    An object that is too thin to be seen in the model's input is given by its mask.
    """
    truth = _truth(session.model, sample, value)
    if not truth.masks.any():
        give_mask(session, frame, sample, value)
        return
    prompts = person.first(truth)
    _say(session, frame, sample, value, prompts, 0)
    for number in range(person.corrections):
        prompts = _click(session, frame, sample, value, person, truth, prompts, number)


def correct_object(
    session: VideoSession, frame: int, sample: Sample, value: int, person: PromptSimulator, num_clicks: int
) -> None:
    """Click on what is wrong on a frame, also where the object is absent or was followed a while ago."""
    next(session.propagate(frame))  # so that what was found there is at hand
    truth = _truth(session.model, sample, value)
    prompts = Prompts(torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long))
    for number in range(num_clicks):
        prompts = _click(session, frame, sample, value, person, truth, prompts, number)


def _truth(model: TrackingModel, sample: Sample, value: int) -> Batch:
    """Return an object's mask in the frame of the model's input, empty where it is absent."""
    rows = (sample.value == value).nonzero()[:, 0]
    plane = sample.plane[rows] if len(rows) else torch.zeros(1, dtype=torch.long)
    one = replace(sample, plane=plane, value=torch.tensor([value]), category=None, crowd=None, prompts=None)
    batch = to_batch(resize_sample(one, model.preprocessing), model.preprocessing, sample.size)
    return batch if len(rows) else replace(batch, masks=batch.masks & False)


def _click(
    session: VideoSession,
    frame: int,
    sample: Sample,
    value: int,
    person: PromptSimulator,
    truth: Batch,
    prompts: Prompts,
    number: int,
) -> Prompts:
    prediction = session.prediction(value, frame).to("cpu")
    after = person.correct(truth, prompts, prediction, number)
    _say(session, frame, sample, value, after, prompts.points.shape[1])
    return after


def _say(session: VideoSession, frame: int, sample: Sample, value: int, prompts: Prompts, said: int) -> None:
    """Give the points that were not said yet."""
    scale = session.model.preprocessing.scale_points(torch.ones(2), sample.size)
    points, labels = prompts.points[0, said:] / scale, prompts.labels[0, said:]
    given = labels != PointLabel.EMPTY
    if given.any():
        session.prompt(frame, value, points[given], labels[given])
