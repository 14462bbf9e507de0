"""A run is made to fit, and what fits is the same run."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Callback

from sam_train.structures import InputError
from sam_train.tasks.memory_planner import MemoryPlan, MemoryPlanner, find_plan
from tests.tasks.runs import make_data, make_task, make_trainer, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


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
        with pytest.raises(InputError, match="one image with one object"):
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


def train(folder, planner, plan=None, batch_size=4, **options):
    task, validations = make_task(), Validations()
    if plan:
        task.record["plan"] = plan
    callbacks = [validations, *([planner] if planner else [])]
    trainer = make_trainer(
        folder, callbacks=callbacks, max_steps=2, val_check_interval=1, limit_val_batches=1, **options
    )
    trainer.fit(task, make_data(batch_size))
    return task, validations.steps, trainer


@pytest.mark.parametrize("images", [1, 3])
def test_a_batch_in_parts_trains_like_the_whole(tmp_path, images):
    whole, steps, _ = train(tmp_path / "whole", None, precision="64-true")
    parts, steps_of_parts, trainer = train(tmp_path / "parts", MemoryPlanner(None), (images, 3), precision="64-true")
    assert trainer.accumulate_grad_batches == -(-4 // images)
    assert steps == steps_of_parts == [1, 2]
    worst = max((weights(whole)[name] - weights(parts)[name]).abs().max() for name in weights(whole))
    assert worst <= 1e-10


def test_measuring_leaves_no_trace(tmp_path, capsys):
    plain, _, _ = train(tmp_path / "plain", None)
    measured, _, trainer = train(tmp_path / "measured", MemoryPlanner("auto"))
    assert trainer.accumulate_grad_batches == 1
    assert measured.record["plan"] == (4, 3)
    assert "a step takes about" in capsys.readouterr().out
    assert all(torch.equal(value, weights(measured)[name]) for name, value in weights(plain).items())


def test_little_memory_is_refused_with_remedies(tmp_path):
    with pytest.raises(InputError, match=r"one image with one object takes .* tuning.checkpoint_activations=true"):
        train(tmp_path, MemoryPlanner(0.001))


@pytest.mark.parametrize("limit", ["most", 0, -1.0])
def test_a_limit_is_a_number_of_gigabytes(limit):
    with pytest.raises(InputError, match=r"trainer\.memory"):
        MemoryPlanner(limit)
