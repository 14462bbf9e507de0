"""Rows of scores as they come in; metrics that take long are computed in other processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from sam_train.metrics.base import MaskPairs, Metric
from sam_train.metrics.crops import MaskCrop
from sam_train.metrics.rle import encode_crop
from sam_train.metrics.table import KEYS, column_of
from sam_train.structures import Sample

if TYPE_CHECKING:
    import pyarrow as pa

Scores = list[list[float]]
"""For each metric the scores of some pairs."""

_MOST_PENDING = 64  # groups of objects that wait for other processes: their masks are held


class Rows:
    """Collects one row for each object and kind of prompt.

    Columns: those of :data:`sam_train.metrics.table.KEYS`; the ``source``, where there are several; ``group``,
    ``height`` and ``width`` of the image; ``category`` and ``area`` (pixels at the original size) of the object; for
    each model, with its name before: every metric, ``predicted_iou``, where a curve is asked for ``iou_by_click``, and
    with ``with_masks`` the mask as COCO's compressed run lengths (``rle``, and ``true_rle`` for the object).

    Args:
        metrics: What to measure.
        executor: Other processes, which compute slow metrics; by default this one does.
        with_masks: Kinds of prompt whose masks are kept, for scores that compare all masks of an image.
    """

    def __init__(
        self, metrics: Sequence[Metric], executor: Executor | None = None, with_masks: Sequence[str] = ()
    ) -> None:
        self.metrics = metrics
        self.with_masks = with_masks
        self._executor = executor
        self._elsewhere = [metric for metric in metrics if metric.is_slow and executor is not None]
        self._rows: list[dict[str, Any]] = []
        self._pending: deque[tuple[list[dict[str, Any]], str, Future[Scores]]] = deque()
        self._first = 0  # row of the image and prompt that scores are added to
        self._next: dict[str, int] = {}  # by model, the row that is scored next

    def __len__(self) -> int:
        return len(self._rows)

    def begin(self, image: str, truth: Sample, prompt: str) -> None:
        """Make rows for some objects of an image.

        Args:
            image: Its id.
            truth: The image with these objects only.
            prompt: The kind of prompt they are scored by.
        """
        self._first = len(self._rows)
        self._next = {}
        height, width = truth.size
        for index, (value, area) in enumerate(zip(truth.value.tolist(), truth.areas().tolist(), strict=True)):
            row = dict(zip(KEYS, (image, value, prompt), strict=True))
            row |= {} if truth.source is None else {"source": truth.source}
            row |= {"group": truth.group or image, "category": truth.category[index] if truth.category else None}
            self._rows.append(row | {"area": area, "height": height, "width": width})

    def add(self, model: str, pairs: MaskPairs, predicted_iou: Sequence[float]) -> None:
        """Score the next objects of the image by a model's masks."""
        start = self._next.get(model, self._first)
        self._next[model] = start + len(predicted_iou)
        rows = self._rows[start : self._next[model]]
        for row, value in zip(rows, predicted_iou, strict=True):
            row[_column("predicted_iou", model)] = value
        for metric in self.metrics:
            values = [None] * len(rows) if metric in self._elsewhere else metric(pairs).tolist()
            for row, value in zip(rows, values, strict=True):
                row[column_of(metric, model)] = value
        if rows and rows[0]["prompt"] in self.with_masks:
            for row, crop in zip(rows, pairs.crops, strict=True):
                row[_column("rle", model)] = _runs(crop, crop.predicted)
                row["true_rle"] = _runs(crop, crop.truth)
        if self._elsewhere:
            assert self._executor is not None
            future = self._executor.submit(score_crops, self._elsewhere, pairs.crops)
            self._pending.append((rows, model, future))
            self._collect(_MOST_PENDING)

    def add_curves(self, model: str, curves: Sequence[Sequence[float]]) -> None:
        """Keep the IoU after each click of the objects that were just scored."""
        start = self._next[model] - len(curves)
        for row, curve in zip(self._rows[start : self._next[model]], curves, strict=True):
            row[_column("iou_by_click", model)] = list(curve)

    def table(self) -> pa.Table:
        """Return the rows so far and forget them; waits for other processes."""
        import pyarrow as pa

        self._collect(0)
        rows, self._rows = self._rows, []
        names = dict.fromkeys(name for row in rows for name in row)
        types = {"category": pa.string()}  # also where no object has any
        return pa.table({name: pa.array([row.get(name) for row in rows], types.get(name)) for name in (names or KEYS)})

    def _collect(self, left: int) -> None:
        """Take what other processes have computed, the oldest first, until this many are left."""
        while len(self._pending) > left:
            rows, model, future = self._pending.popleft()
            for metric, values in zip(self._elsewhere, future.result(), strict=True):
                for row, value in zip(rows, values, strict=True):
                    row[column_of(metric, model)] = value


def score_crops(metrics: Sequence[Metric], crops: Sequence[MaskCrop]) -> Scores:
    """Compute each metric of pairs that were cut out."""
    pairs = [MaskPairs.of(crop) for crop in crops]
    return [[metric(pair).item() for pair in pairs] for metric in metrics]


def _column(name: str, model: str) -> str:
    return f"{model}_{name}" if model else name


def _runs(crop: MaskCrop, mask: Bool[np.ndarray, "r c"]) -> str:
    return encode_crop(mask, crop.corner, crop.image_size)["counts"]
