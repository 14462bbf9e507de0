"""Average recall of masks of everything."""

import pytest
import torch

from sam_train.inference.instances import Instances
from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.run_lengths import RunLengths
from sam_train.runs.evaluate_everything import score_everything
from tests.third_party.discs import Discs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


class Oracle:
    """Finds the objects of the images, in order; some of them only."""

    def __init__(self, images, share: float) -> None:
        self.masks = iter([images.read(index).masks() for index in range(len(images))])
        self.share = share

    def everything(self, pixels: torch.Tensor) -> Instances:
        masks = next(self.masks)
        masks = masks[: round(self.share * len(masks))]
        scores = torch.linspace(1, 0.5, len(masks))
        return Instances(RunLengths.of(masks), mask_boxes(masks), scores, (None,) * len(masks))


def test_recall_is_the_share_of_objects_that_are_found():
    images = Discs().splits()["test"]
    counts = [len(images.read(index).value) for index in range(len(images))]
    scores = score_everything({"all": Oracle(images, 1), "none": Oracle(images, 0)}, images)
    assert scores["all"]["AR@1000"] == scores["all"]["AR@100"] == pytest.approx(1)
    assert scores["all"]["AR@1"] == pytest.approx(len(counts) / sum(counts))
    assert scores["none"]["AR@1000"] == 0
    assert scores["all"]["AP"] == pytest.approx(1)
