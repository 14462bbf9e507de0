"""The notebooks run from top to bottom."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run_notebook(name: str, tmp_path, monkeypatch, **constants: int) -> dict[str, Any]:
    """Run a notebook's cells with other values of the constants in its first one; return all names."""
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), "stored without outputs"
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for constant, value in constants.items():
        code[0], number = re.subn(rf"^{constant} = \d+ ", f"{constant} = {value} ", code[0], flags=re.MULTILINE)
        assert number == 1, f"{constant} is among the constants of {name}"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    plt.switch_backend("agg")
    names: dict[str, Any] = {}
    for source in code:
        exec(compile(source, name, "exec"), names)
    plt.close("all")
    return names


def test_every_notebook_is_run():
    run = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} <= run


def test_adapt_a_small_sam(tmp_path, monkeypatch):
    names = run_notebook("adapt_a_small_sam", tmp_path, monkeypatch, STEPS=2, HELD_OUT=3)
    assert names["report"].num_objects > 0
    assert set(names["iou"](names["tuned"])) == {"box", "point", "clicks"}


def test_volumes(tmp_path, monkeypatch):
    names = run_notebook("volumes", tmp_path, monkeypatch, STEPS=2, PATIENTS=4)
    own = [score.dice() for score in names["before"].values()]
    of_report = names["report"].volumes["untuned"]["dice"]  # which leaves out what is small in a slice
    assert of_report == pytest.approx(sum(own) / len(own), abs=0.01)
    assert len(list(names["folder"].glob("*_found.nii.gz"))) == names["report"].volumes["num_volumes"]


def test_automatic_masks(tmp_path, monkeypatch):
    names = run_notebook("automatic_masks", tmp_path, monkeypatch, STEPS=2, TRAIN=4, HELD_OUT=3, POINTS=4)
    assert {*names["scores"]} == {"untuned", "tuned", "head"}
    assert names["scores"]["tuned"]["decodes"] == 16


@pytest.mark.slow
def test_videos(tmp_path, monkeypatch):
    names = run_notebook("videos", tmp_path, monkeypatch, FRAMES=3, STEPS=1, VOLUMES=3, SLICES=6)
    assert len(names["followed"]) == 3
    assert {*names["report"].tuned} == {"mask", "box", "clicks"}
    assert {1, 2, 3} >= {*names["labels"].ravel().tolist()} - {0} != set()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # PEFT's own use of transformers
def test_exports(tmp_path, monkeypatch):
    names = run_notebook("exports", tmp_path, monkeypatch, STEPS=1, TRAIN=4)
    for runtime in ("transformers", "PEFT", "onnxruntime", "Meta"):
        assert names["iou"](names["found"][runtime], names["found"]["tuned"]) > 0.95
