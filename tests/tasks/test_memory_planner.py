"""A run is made to fit, and what fits is the same run."""

import math

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Callback

from sam_train.errors import InputError
from sam_train.tasks.feature_cache import FeatureCache
from sam_train.tasks.memory import _left_to_groups, free_bytes, peak_bytes
from sam_train.tasks.memory_planner import MemoryPlan, MemoryPlanner, _TooLittleError, find_plan
from tests.tasks.runs import make_data, make_task, make_trainer, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


@pytest.mark.parametrize(
    ("entry", "below", "names"),
    [
        ("0::/user/session", "", ("memory.max", "memory.current", "inactive_file")),
        ("7:memory:/user/session", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_groups_leave_what_neither_they_nor_those_above_use_but_for_files(entry, below, names, tmp_path):
    limit, usage, cached = names
    (tmp_path / "cgroup").write_text(f"3:cpu:/elsewhere\n{entry}\n")
    for folder, most, used, files in (("user", 1000, 700, 500), ("user/session", 900, 600, 100)):
        (tmp_path / below / folder).mkdir(parents=True)
        (tmp_path / below / folder / limit).write_text(f"{most}\n")
        (tmp_path / below / folder / usage).write_text(f"{used}\n")
        (tmp_path / below / folder / "memory.stat").write_text(f"anon {used - files}\n{cached} {files}\n")
    assert sorted(_left_to_groups(tmp_path, tmp_path / "cgroup")) == [400, 800]


@given(
    image=st.floats(1, 100),
    each=st.floats(0.1, 10),
    batch_size=st.integers(1, 16),
    max_objects=st.integers(1, 100),
    free=st.floats(1, 2000),
)
def test_a_plan_fits_and_a_larger_one_would_not(image, each, batch_size, max_objects, free):
    def needs(objects):
        return image + each * objects

    if needs(1) > free:
        with pytest.raises(_TooLittleError):
            find_plan(needs, batch_size, max_objects, free)
        return
    plan, needed = find_plan(needs, batch_size, max_objects, free)
    slack = 1 + 1e-9
    tried_second = needs(2) <= free  # else two objects had to be tried to know
    assert needed == pytest.approx(plan.images * needs(plan.objects))
    assert needed <= free * slack
    assert plan.images == batch_size or (plan.images + 1) * needs(plan.objects) * slack > free or not tried_second
    assert plan.objects == max_objects or needs(plan.objects + 1) * slack > free


def test_a_step_that_runs_out_of_memory_is_no_plan():
    tried = []

    def measure(count):
        tried.append(count)
        return math.inf if count > 5 else 10.0 + count

    assert find_plan(measure, 4, 32, 25.0)[0] == MemoryPlan(1, 2)
    assert tried == [1, 2, 8]


class Validations(Callback):
    """Remembers after which optimiser steps the model was validated."""

    def __init__(self):
        self.steps = []

    def on_validation_end(self, trainer, pl_module):
        self.steps.append(trainer.global_step)


def train(folder, planner, plan=None, task=None, **options):
    task, validations, data = task or make_task(), Validations(), make_data(4)
    if plan:
        task.record["plan"] = plan
    options = {"max_steps": 2, "val_check_interval": 1, "limit_val_batches": 2, **options}
    trainer = make_trainer(folder, callbacks=[*([planner] if planner else []), validations], **options)
    trainer.fit(task, data)
    return task, validations.steps, trainer


@pytest.mark.parametrize(("images", "limit"), [(1, 1.0), (3, 1.0), (3, 1)])
def test_a_batch_in_parts_trains_like_the_whole(tmp_path, images, limit):
    options = {"precision": "64-true", "limit_train_batches": limit}
    whole, steps, _ = train(tmp_path / "whole", None, **options)
    parts, steps_of_parts, trainer = train(tmp_path / "parts", MemoryPlanner(None), (images, 3), **options)
    assert trainer.accumulate_grad_batches == -(-4 // images)
    assert steps == steps_of_parts == [1, 2]
    worst = max((weights(whole)[name] - weights(parts)[name]).abs().max() for name in weights(whole))
    assert worst <= 1e-10


class Untouched(Callback):
    """Finds what setting up has left of the callbacks before this one."""

    def __init__(self, task):
        self.buffers = {name: value.clone() for name, value in task.named_buffers()}
        self.random = torch.get_rng_state()

    def setup(self, trainer, pl_module, stage):
        assert torch.equal(torch.get_rng_state(), self.random)
        assert all(parameter.grad is None for parameter in pl_module.parameters())
        assert all(torch.equal(value, self.buffers[name]) for name, value in pl_module.named_buffers())


@pytest.mark.parametrize("tuning", [{"mode": "full", "preset": "mobile_sam"}, {"mode": "lora", "dropout": 0.5}])
def test_measuring_leaves_no_trace(tmp_path, capsys, tuning):
    task, data = make_task(**tuning), make_data(4)
    callbacks = [MemoryPlanner("auto"), Untouched(task)]
    make_trainer(tmp_path, callbacks=callbacks, limit_train_batches=0, limit_val_batches=0).fit(task, data)
    assert task.record["plan"] == (4, 3)
    assert "a step takes about" in capsys.readouterr().out


def test_with_a_cache_what_is_before_it_is_not_measured(tmp_path):
    task, cache = make_task("full", last_blocks=1), FeatureCache(str(tmp_path / "cache"))
    begun = []
    options = {"limit_train_batches": 0, "limit_val_batches": 0}
    trainer = make_trainer(tmp_path, callbacks=[cache, MemoryPlanner("auto")], **options)
    task.model.image_encoder.steps[0].register_forward_hook(lambda *_: begun.append(torch.is_grad_enabled()))
    trainer.fit(task, make_data(4))
    assert begun
    assert not any(begun)


@pytest.mark.parametrize(
    ("gigabytes", "plan", "said"),
    [
        (2.5, (1, 2), "only 2 of loader.max_objects=3 objects of an image train in a step. Try tuning.check"),
        (7, (2, 3), "its 4 images in 2 parts, which changes no gradient"),
        (100, (4, 3), "a step takes about 12 GB of 100\n"),
    ],
)
def test_a_plan_is_said_and_followed(tmp_path, monkeypatch, capsys, gigabytes, plan, said):
    measured = "sam_train.tasks.memory_planner._measurement"
    monkeypatch.setattr(measured, lambda *_: lambda count: count * 1e9)
    task, data = make_task(), make_data(4)
    options = {"limit_train_batches": 0, "limit_val_batches": 0}
    make_trainer(tmp_path, callbacks=[MemoryPlanner(gigabytes)], **options).fit(task, data)
    assert task.record["plan"] == plan
    assert data.loading.max_objects == plan[1]
    assert said in capsys.readouterr().out


def test_little_memory_is_refused_with_remedies(tmp_path):
    with pytest.raises(InputError, match=r"one image with one object takes .* Try tuning.checkpoint_activations=true"):
        train(tmp_path / "full", MemoryPlanner(0.001))
    with pytest.raises(
        InputError, match=r"can be had\. Try a smaller model.image_size or model, prompts.corrections=0$"
    ):
        train(tmp_path / "frozen", MemoryPlanner(0.001), task=make_task("frozen"))


def test_a_step_is_measured_at_its_height():
    def step():
        return torch.ones(50_000_000).sum()

    step()
    assert peak_bytes(step, torch.device("cpu")) == pytest.approx(200e6, rel=0.1)
    assert peak_bytes(lambda: None, torch.device("cpu")) < 20e6


def test_there_is_less_free_than_the_machine_has():
    assert 1e8 < free_bytes(torch.device("cpu")) <= psutil.virtual_memory().total


@pytest.mark.parametrize("limit", ["most", 0, -1.0, True])
def test_a_limit_is_a_number_of_gigabytes(limit):
    with pytest.raises(InputError, match=r"trainer\.memory"):
        MemoryPlanner(limit)
