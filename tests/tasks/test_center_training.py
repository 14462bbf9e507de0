"""A head that learns beside a model: the model is as without it, and the head learns from all objects."""

import pytest
import torch

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.dataset import TrainDataset
from sam_train.data.sources.several import SeveralImages
from sam_train.errors import InputError
from sam_train.losses.center_loss import CenterTerms
from sam_train.models import build_model
from sam_train.tasks.center_training import CenterTraining
from tests.data.samples import Squares
from tests.runs.test_evaluate_everything import NamedDiscs
from tests.tasks.runs import SIZE, head_weights, make_data, make_task, make_trainer, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize(
    ("mode", "clip", "by"), [("full", 0.01, "norm"), ("frozen", 0.01, "norm"), ("frozen", 1e-6, "value")]
)
def test_a_model_learns_the_same_to_the_last_bit_beside_a_head(tmp_path, mode, clip, by):
    alone, beside = make_task(mode), make_task(mode, prompter=CenterTraining())
    untrained = head_weights(beside)
    for task, with_boxes in ((alone, False), (beside, True)):
        options = {"gradient_clip_val": clip, "gradient_clip_algorithm": by}
        trainer = make_trainer(tmp_path / str(with_boxes), max_steps=3, **options)
        trainer.fit(task, make_data(2, with_boxes=with_boxes))
    assert_same(weights(alone), weights(beside))
    assert max((head_weights(beside)[name] - untrained[name]).abs().max().item() for name in untrained) > 1e-4
    assert {f"train/center_{term}" for term in CenterTerms._fields} <= trainer.callback_metrics.keys()


def train_head(folder, steps, precision="32-true", micro_batch=None, **options):
    task = make_task("frozen", keep_base=False, prompter=CenterTraining())
    task.record |= {"horizon": 4, "micro_batch": micro_batch}
    trainer = make_trainer(folder, max_steps=steps, precision=precision)
    trainer.fit(task, make_data(2, with_boxes=True), **options)
    return head_weights(task)


def test_a_head_resumes_to_the_last_bit(tmp_path):
    whole = train_head(tmp_path / "whole", 4)
    train_head(tmp_path / "part", 2)
    resumed = train_head(tmp_path / "part", 4, ckpt_path=tmp_path / "part" / "last.ckpt", weights_only=True)
    assert_same(whole, resumed)


def test_a_head_learns_the_same_from_parts_of_a_batch(tmp_path):
    whole, parts = (train_head(tmp_path / str(at_once), 1, "64-true", at_once) for at_once in (2, 1))
    assert max((whole[name] - parts[name]).abs().max().item() for name in whole) < 1e-9


def test_boxes_are_of_all_objects_and_fit_the_masks_that_train():
    preprocessing = build_model("sam_nano", SIZE).preprocessing
    for augmentation in (None, Augmentation()):
        few, every = (
            TrainDataset(Squares(6), preprocessing, augmentation, number, 1, 0, with_boxes=True) for number in (1, 9)
        )
        for index in (3, 5):
            one, all_of_them = few[0, index], every[0, index]
            assert one.num_objects == 1
            for batch in (one, all_of_them):
                boxes = batch.everything.boxes.long().tolist()
                assert len(boxes) >= all_of_them.num_objects
                around = [mask.nonzero() for mask in batch.masks]
                found = [[*at.amin(0).flip(0).tolist(), *(at.amax(0).flip(0) + 1).tolist()] for at in around]
                assert all(box in boxes for box in found)


class CalledOtherwise(NamedDiscs):
    def read(self, *arguments, **options):
        sample = super().read(*arguments, **options)
        sample.category = tuple(name.upper() for name in sample.category)
        return sample


@pytest.mark.parametrize(("others", "found"), [(Squares(3), "has no name"), (CalledOtherwise(3), "is called A")])
def test_objects_of_no_known_name_beside_named_ones_are_refused(others, found):
    named = NamedDiscs(3)
    named.categories = ("a", "b", "c")
    images = SeveralImages({"named": named, "others": others}, {})
    preprocessing = build_model("sam_nano", SIZE).preprocessing
    dataset = TrainDataset(images, preprocessing, None, 4, 1, 0, with_boxes=True)
    assert dataset[0, 0].everything.category.tolist() == [0, 1]
    with pytest.raises(InputError, match=rf"an object of others/.+ {found}, which is none .*\(a, b, c\)"):
        dataset[0, 4]
