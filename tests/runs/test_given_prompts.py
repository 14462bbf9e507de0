"""``prompts=given``: a run trains, validates and is scored on the boxes that came with the data."""

import json

import numpy as np
import pytest

from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from sam_train.runs.given_prompts import tell_given
from tests.data.sources.coco_files import save_json
from tests.data.sources.folders import discs, make_folder, picture, save
from tests.e2e.commands import SMALL, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]
SETTINGS = [setting for setting in SMALL if not setting.startswith(("data.", "trainer.max_steps"))]
SETTINGS += ["trainer.max_steps=2", "evaluation.protocols=[given,box]", "evaluation.pictures=1"]


def make_detections(root):
    """Discs as COCO, and a detector that misses the first disc of each image and is two pixels off at the others."""
    images, annotations, results = [], [], []
    for number in range(8):
        save(root / "images" / f"{number}.png", picture((96, 128), number))
        images.append({"id": number, "file_name": f"{number}.png", "height": 96, "width": 128})
        labels = discs(seed=number)
        for value in np.unique(labels)[1:].tolist():
            rows, columns = np.nonzero(labels == value)
            x0, y0, x1, y1 = (int(end) for end in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            box = [x0, y0, x1 - x0, y1 - y0]
            outline = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box})
            annotations[-1] |= {"segmentation": outline, "area": box[2] * box[3], "iscrowd": 0}
            if value > 1:
                shifted = [box[0] + 2, box[1] + 2, *box[2:]]
                results.append({"image_id": number, "category_id": 1, "bbox": shifted, "score": 0.9})
    categories = [{"id": 1, "name": "disc"}]
    save_json(root / "a.json", {"images": images, "annotations": annotations, "categories": categories})
    save_json(root / "results.json", results)
    return root


def test_a_run_on_a_detectors_boxes_tells_how_many_objects_have_one(tmp_path, monkeypatch, capsys):
    root = make_detections(tmp_path / "data")
    data = ["data=coco", f"data.root={root}", "data.annotations=a.json", "data.boxes=results.json"]
    run("train", monkeypatch, *data, "prompts=given", *SETTINGS, f"output={tmp_path / 'run'}")
    told = capsys.readouterr().out
    assert "came with boxes or points; the others get boxes around them" in told
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["tuned"]) == ["given", "box"]
    assert report["prompted"]["given"] < report["prompted"]["box"] == report["num_objects"]
    assert f"given: scores of the {report['prompted']['given']} objects that have the data's own prompts" in told
    assert 0 < report["untuned"]["given"]["iou"] != report["untuned"]["box"]["iou"]
    assert "val/iou_given" in next((tmp_path / "run").rglob("metrics.csv")).read_text()
    again = [f"checkpoint={tmp_path / 'run'}", "evaluation.protocols=[given]", f"output={tmp_path / 'r'}"]
    run("evaluate", monkeypatch, *again)
    again = json.loads((tmp_path / "r" / "report.json").read_text())
    assert again["tuned"]["given"]["iou"] == report["tuned"]["given"]["iou"]


def test_data_without_any_prompts_are_refused(tmp_path):
    images = FolderSource(str(make_folder(tmp_path))).splits()["train"]
    with pytest.raises(InputError, match=r"prompts\.given: none of \d+ objects has a box.*data\.boxes=.*prompts=box"):
        tell_given(images)
