"""The examples of the documentation run, in order and on a small folder."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_train.export.onnx import export_onnx
from sam_train.metrics.base import MaskPairs, find_metrics
from sam_train.tuning.lora import merged
from tests.e2e.commands import write_squares

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """The folder in which the first example has run, and the names it has left."""
    folder = tmp_path_factory.mktemp("examples")
    write_squares(folder / "polyps", 8)
    source = (EXAMPLES / "finetune.py").read_text()
    assert "STEPS = 200\n" in source
    names = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        exec(compile(source.replace("STEPS = 200\n", "STEPS = 2\n"), "finetune.py", "exec"), names)
    return folder, names


def test_the_fine_tuned_model_finds_the_object_in_a_box(finetuned):
    _, names = finetuned
    truth = np.zeros((64, 64), bool)
    truth[8:24, 10:40] = True
    found = names["masks"][0].numpy()
    assert found.shape == truth.shape
    assert (found & truth).sum() / (found | truth).sum() > 0.8
    assert names["report"].num_objects > 0


def test_the_exported_model_finds_the_same_in_transformers(finetuned, monkeypatch):
    folder, names = finetuned
    monkeypatch.chdir(folder)
    theirs = runpy.run_path(str(EXAMPLES / "use_in_transformers.py"))["masks"]
    assert (theirs[0, 0] == names["masks"][0]).float().mean() > 0.99


def test_the_model_exported_as_onnx_finds_the_same_in_onnxruntime(finetuned, monkeypatch):
    folder, names = finetuned
    monkeypatch.chdir(folder)
    export_onnx(merged(names["run"].tuned()), folder / "polyp_onnx")
    theirs = runpy.run_path(str(EXAMPLES / "use_in_onnxruntime.py"))["mask"]
    assert (theirs == names["masks"][0].numpy()).mean() > 0.995


def test_the_lines_in_the_readme_are_the_example():
    code = (EXAMPLES / "use_in_onnxruntime.py").read_text().partition('"""\n\n')[2]
    assert f"```python\n{code}```" in (EXAMPLES.parents[1] / "README.md").read_text()


def test_a_run_is_evaluated_from_python(finetuned, monkeypatch, capsys):
    folder, _ = finetuned
    monkeypatch.chdir(folder)
    report = runpy.run_path(str(EXAMPLES / "evaluate.py"))["report"]
    assert capsys.readouterr().out.splitlines()[-1].startswith(str(report.tuned["box"]["iou"]))
    assert (folder / "reports" / "polyps" / "report.html").is_file()


def test_objects_are_followed_forward_and_back_after_a_correction(capsys):
    names = runpy.run_path(str(EXAMPLES / "follow_objects.py"))
    assert [mask.shape for mask in names["masks"]] == [(1, 128, 128)] * 6
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_scores_are_read_by_group(finetuned, monkeypatch, capsys):
    folder, names = finetuned
    monkeypatch.chdir(folder)
    rows = runpy.run_path(str(EXAMPLES / "scores_by_group.py"))["by_group"].to_pylist()
    mean = sum(row["tuned_iou_mean"] for row in rows) / len(rows)  # each image is a group and has one object
    assert mean == pytest.approx(names["report"].tuned["point"]["iou"])
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


def test_the_metric_is_found_by_its_dotted_path(monkeypatch):
    import torch

    monkeypatch.syspath_prepend(str(EXAMPLES))
    (metric,) = find_metrics(["own_metric.SENSITIVITY"], [])
    truth = torch.zeros(2, 4, 4, dtype=torch.bool)
    truth[:, :2] = True
    predicted = truth.clone()
    predicted[1, 1] = False
    assert metric(MaskPairs(predicted, truth)).tolist() == [1.0, 0.5]


def test_the_objects_of_a_coco_export_are_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "farm" / "images").mkdir(parents=True)
    images = [{"id": number, "file_name": f"{number}.png", "width": 32, "height": 24} for number in (1, 2)]
    squares = [[[4, 4, 12, 4, 12, 12, 4, 12]], [[16, 10, 28, 10, 28, 20, 16, 20]]]
    annotations = [
        {"id": 10 * image + index, "image_id": image, "category_id": 1, "segmentation": square}
        for image in (1, 2)
        for index, square in enumerate(squares)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cow"}]}
    (tmp_path / "farm" / "annotations.json").write_text(json.dumps(content))
    for image in images:
        Image.new("RGB", (32, 24), (9, image["id"], 9)).save(tmp_path / "farm" / "images" / image["file_name"])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "coco.py"))
    assert capsys.readouterr().out == "images/1.png ('cow', 'cow') [64, 120]\n"
