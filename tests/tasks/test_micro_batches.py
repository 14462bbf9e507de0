"""A step in parts is the same step."""

import pytest
import torch

from sam_train.data.loading.collate import collate
from sam_train.data.loading.dataset import EvalDataset
from sam_train.prompts.simulator import PromptSimulator
from sam_train.tasks.micro_batches import loss_in_parts, split_batch
from tests.data.samples import Squares
from tests.tasks.runs import make_data, make_task, make_trainer, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


def train(folder, **record):
    task = make_task()
    task.record.update(record)
    options = {"max_steps": 2, "limit_val_batches": 0, "precision": "64-true", "accumulate_grad_batches": 2}
    trainer = make_trainer(folder, **options)
    trainer.fit(task, make_data(4))
    return weights(task), {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    "record", [{"micro_batch": 1}, {"micro_batch": 3}, {"micro_objects": 2}, {"micro_batch": 2, "micro_objects": 1}]
)
def test_a_batch_in_parts_trains_like_the_whole(tmp_path, record):
    whole, logged = train(tmp_path / "whole")
    parts, logged_of_parts = train(tmp_path / "parts", **record)
    assert max((whole[name] - parts[name]).abs().max() for name in whole) <= 1e-10
    assert logged_of_parts == pytest.approx(logged, rel=1e-9)


def example(task, count=5):
    images = EvalDataset(Squares(6), task.model.preprocessing, min_area=1)
    return collate([images[index] for index in range(1, count + 1)])


def gradients(task, loss):
    task.zero_grad()
    loss.backward()
    return {name: value.grad for name, value in task.named_parameters()}


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_gradient_is_that_of_the_whole_also_under_a_scaler(scale):
    task = make_task(simulator=PromptSimulator(box=1))
    batch = example(task)
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    whole = gradients(task, task.loss_of(batch))
    parts = gradients(task, loss_in_parts(task.loss_of, list(split_batch(batch, 2)), trained, scale))
    unused = [name for name, value in whole.items() if value is None]
    assert any("mask_downscaling" in name for name in unused)  # nobody gave a mask prompt
    for name, value in whole.items():
        if value is None or parts[name] is None:  # or next to nothing, where a bias cancels in the softmax
            assert all(one is None or one.norm() < 1e-6 for one in (value, parts[name])), name
        else:
            assert (parts[name] - value).norm() <= 1e-4 * value.norm() + 1e-6, name
    assert all(parts[name] is None for name in unused if "mask_downscaling" in name)


def test_parts_are_the_batch_in_order():
    task = make_task()
    batch = example(task)
    parts = list(split_batch(batch, 2))
    assert [part.ids for part in parts] == [batch.ids[:2], batch.ids[2:4], batch.ids[4:]]
    again = collate(parts)
    assert torch.equal(again.masks, batch.masks)
    assert torch.equal(again.object_image, batch.object_image)
    assert torch.equal(again.images, batch.images)
    assert list(split_batch(batch, 5)) == [batch]
