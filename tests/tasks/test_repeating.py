"""The same step has the same digits, also with several threads on a busy machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("what", [pytest.param("sam_nano", marks=pytest.mark.slow), "sam2_nano", "resume"])
def test_a_step_and_a_resumed_run_repeat_to_the_last_digit(what, tmp_path):
    command = [sys.executable, "-m", "tests.tasks.repeated", what, str(tmp_path)]
    patient = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, cwd=ROOT, env=patient, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
