"""Average precision and recall of masks as COCO defines them, through pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_train.metrics.rle import Rle

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

AP_DETECTIONS = 100  # of an image, that count for AP: COCO's own number
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class PredictedMask:
    """A mask that was found.

    Attributes:
        image: Id of its image.
        rle: Its pixels.
        score: How sure the model is; only the order counts.
        category: Name of what it is.
    """

    image: str
    rle: Rle
    score: float
    category: str = ""


@dataclass(frozen=True)
class TrueMask:
    """A mask that was to be found.

    Attributes:
        image: Id of its image.
        rle: Its pixels.
        category: Name of what it is.
        area: Pixels by which it is small (under 32²), medium or large (from 96²); by default those of ``rle``.
        is_crowd: Whether it is a region of many things: masks inside it are neither right nor wrong.
    """

    image: str
    rle: Rle
    category: str = ""
    area: float | None = None
    is_crowd: bool = False


def score_detections(
    predictions: Sequence[PredictedMask],
    truths: Sequence[TrueMask],
    max_detections: Collection[int] = (1, 10, 100),
    by_category: bool = True,
) -> dict[str, float | None]:
    """Compute COCO's AP and AR of masks (Lin et al. 2014), in [0, 1].

    Args:
        predictions: What was found; on images without a true mask it is wrong.
        truths: What was to be found.
        max_detections: For AR, how many masks of an image (and category) count, the surest first; up to 1000 are
            usual for automatic masks.
        by_category: Whether a mask must have the truth's category, and means are over categories.

    Returns:
        ``AP`` (mean over IoU thresholds 0.5, 0.55 ... 0.95, at most 100 masks an image), ``AP50``, ``AP75``,
        ``AP_small``, ``AP_medium``, ``AP_large``, and ``AR@n`` for each number of masks; None where there is no
        true mask of the kind.
    """
    from pycocotools.cocoeval import COCOeval

    limits = sorted({*max_detections, AP_DETECTIONS})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells what it does
        evaluation = COCOeval(*_as_coco(predictions, truths), "segm")
        evaluation.params.maxDets = limits
        evaluation.params.useCats = int(by_category)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = partial(_at, evaluation, "precision", AP_DETECTIONS)
    scores = {"AP": precision(), "AP50": precision(iou=0.5), "AP75": precision(iou=0.75)}
    scores |= {f"AP_{size}": precision(size) for size in SIZES}
    return scores | {f"AR@{limit}": _at(evaluation, "recall", limit) for limit in sorted(max_detections)}


def _at(evaluation: COCOeval, measure: str, limit: int, size: str = "all", iou: float | None = None) -> float | None:
    """Mean over IoU thresholds, recalls and categories, those left out (-1) that have no true mask."""
    parameters = evaluation.params
    values = evaluation.eval[measure][..., parameters.areaRngLbl.index(size), parameters.maxDets.index(limit)]
    if iou is not None:
        values = values[np.isclose(parameters.iouThrs, iou)]
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _as_coco(predictions: Sequence[PredictedMask], truths: Sequence[TrueMask]) -> tuple[COCO, COCO]:
    """Both sides as pycocotools holds them, the true one first; ids begin at 1, since 0 says "no match" there."""
    from pycocotools import mask as mask_utils

    masks = (*truths, *predictions)
    images = {name: number for number, name in enumerate(sorted({mask.image for mask in masks}), start=1)}
    categories = {name: number for number, name in enumerate(sorted({mask.category for mask in masks}), start=1)}

    def annotation(number: int, mask: PredictedMask | TrueMask) -> dict[str, Any]:
        pixels: Any = mask.rle  # text is as good as bytes there
        return {
            "id": number,
            "image_id": images[mask.image],
            "category_id": categories[mask.category],
            "segmentation": pixels,
            "area": float(mask_utils.area(pixels)),
            "iscrowd": 0,
        }

    true = [annotation(number, mask) for number, mask in enumerate(truths, start=1)]
    for entry, mask in zip(true, truths, strict=True):
        entry |= {"iscrowd": int(mask.is_crowd)} | ({} if mask.area is None else {"area": mask.area})
    found = [annotation(number, mask) | {"score": mask.score} for number, mask in enumerate(predictions, start=1)]
    sizes = {images[mask.image]: mask.rle["size"] for mask in masks}
    return _index(sizes, categories, true), _index(sizes, categories, found)


def _index(sizes: dict[int, list[int]], categories: dict[str, int], annotations: list[dict[str, Any]]) -> COCO:
    from pycocotools.coco import COCO

    side = COCO()
    dataset: Any = {
        "images": [{"id": number, "height": height, "width": width} for number, (height, width) in sizes.items()],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": annotations,
    }
    side.dataset = dataset
    side.createIndex()
    return side
