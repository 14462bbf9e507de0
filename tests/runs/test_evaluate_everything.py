"""Average recall of masks of everything."""

import pytest
import torch

from sam_train.inference.center_finder import CenterFinder
from sam_train.inference.finder import Finder
from sam_train.inference.instances import Instances
from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.predictor import Predictor
from sam_train.inference.run_lengths import RunLengths
from sam_train.models import build_model
from sam_train.runs.evaluate_everything import Way, score_everything, way_of
from sam_train.tasks.center_training import new_head
from tests.third_party.discs import DiscImages, Discs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


class Oracle:
    """Finds the objects of the images, in order; some of them only."""

    def __init__(self, images, share: float, name: str | None = None) -> None:
        self.masks = iter([images.read(index).masks() for index in range(len(images))])
        self.share = share
        self.name = name
        self.num_decoded = 0

    def find(self, pixels: torch.Tensor) -> Instances:
        masks = next(self.masks)
        masks = masks[: round(self.share * len(masks))]
        self.num_decoded += 10 * len(masks)
        scores = torch.linspace(1, 0.5, len(masks))
        return Instances(RunLengths.of(masks), mask_boxes(masks), scores, (self.name,) * len(masks))

    def way(self) -> Way:
        return Way(self.find, lambda: self.num_decoded, self.name is not None)


def test_recall_is_the_share_of_objects_that_are_found():
    images = Discs().splits()["test"]
    counts = [len(images.read(index).value) for index in range(len(images))]
    scores = score_everything({"all": Oracle(images, 1).way(), "none": Oracle(images, 0).way()}, images)
    assert scores["all"]["AR@1000"] == scores["all"]["AR@100"] == pytest.approx(1)
    assert scores["all"]["AR@1"] == pytest.approx(len(counts) / sum(counts))
    assert scores["none"]["AR@1000"] == 0
    assert scores["all"]["AP"] == pytest.approx(1)
    assert scores["all"]["decodes"] == 10 * sum(counts) / len(counts)
    assert "AP by name" not in scores["all"]


class NamedDiscs(DiscImages):
    def read(self, *arguments, **options):
        sample = super().read(*arguments, **options)
        sample.category = tuple("abc"[value - 1] for value in sample.value.tolist())
        return sample


def test_masks_that_are_called_something_else_count_by_name_alone():
    images = NamedDiscs(2)
    scores = score_everything({"named": Oracle(images, 1, "a").way(), "nameless": Oracle(images, 1).way()}, images)
    assert scores["named"]["AP"] == scores["nameless"]["AP"] == pytest.approx(1)
    assert 0 < scores["named"]["AP by name"] < 0.6
    assert "AP by name" not in scores["nameless"]


def test_a_head_that_was_trained_without_names_is_not_scored_by_name():
    model = build_model("sam_nano", 64)
    predictor = Predictor(model)
    for names, has_names in ((("object",), False), (("a", "b"), True)):
        center = CenterFinder(predictor, new_head(model, names, 0), names)
        assert way_of(Finder(predictor, center=center)).has_names is has_names
