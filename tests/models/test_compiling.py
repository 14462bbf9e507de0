"""``torch.export`` and ``torch.compile`` take the models as they are."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.models.compiled import Masks, arguments
from tests.models.zoo import light_model

FAMILIES = ["sam_nano", "mobile_sam", "sam2.1_hiera_tiny"]


@torch.no_grad()
@pytest.mark.parametrize("preset", FAMILIES)
def test_an_exported_program_takes_any_number_of_objects(preset):
    masks = Masks(light_model(preset).float())
    objects = torch.export.Dim("objects", min=2, max=1024)
    program = torch.export.export(
        masks, arguments(5), dynamic_shapes=(None, {0: objects}, {0: objects}, {0: objects}), strict=False
    ).module()
    for count in (3, 6):
        assert_close(program(*arguments(count)), masks(*arguments(count)), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("preset", FAMILIES)
def test_a_compiled_model_is_one_graph_with_the_same_outputs(preset):
    command = [sys.executable, "-m", "tests.models.compiled", preset]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
