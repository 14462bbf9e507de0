"""The notebooks run from top to bottom."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert "STEPS = 60 " in code[0]
    assert "HELD_OUT = 8 " in code[0]
    code[0] = code[0].replace("STEPS = 60 ", "STEPS = 2 ").replace("HELD_OUT = 8 ", "HELD_OUT = 3 ")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = {}
    for source in code:
        exec(compile(source, path.name, "exec"), names)
    assert names["report"].num_objects > 0
    assert set(names["iou"](names["tuned"])) == {"box", "point", "clicks"}
