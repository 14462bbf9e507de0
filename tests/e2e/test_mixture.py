"""Several sources from the command line."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from sam_train.data.sources.folder import FolderSource
from sam_train.metrics.rle import encode_mask
from tests.e2e.commands import SMALL, assert_report, run, write_squares

SETTINGS = [setting for setting in SMALL if not setting.startswith("data.")]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


def write_coco(root, folder):
    """Write the squares of a folder as COCO."""
    source = FolderSource(str(folder), split=(0, 0, 1)).splits()["test"]
    images, annotations = [], []
    for index, name in enumerate(source.ids):
        sample = source.read(index)
        images.append({"id": index, "file_name": f"{name}.png", "height": sample.size[0], "width": sample.size[1]})
        for mask in sample.each_mask():
            outline = {"segmentation": encode_mask(mask.numpy()), "area": int(mask.sum())}
            annotations.append({"id": len(annotations), "image_id": index, "category_id": 1, **outline})
    shutil.copytree(folder / "images", root / "images")
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (root / "all.json").write_text(json.dumps(content))


@pytest.fixture
def mixture(tmp_path):
    write_squares(tmp_path / "a", 7)
    write_squares(tmp_path / "more", 9, first=10)
    write_coco(tmp_path / "b", tmp_path / "more")
    parts = {"a.kind": "folder", "a.root": f"{tmp_path}/a", "b.kind": "coco", "b.root": f"{tmp_path}/b"}
    return ["data=mixture", *(f"data.parts.{name}={value}" for name, value in parts.items())]


def test_a_mixture_trains_resumes_and_is_scored_apart(mixture, tmp_path, monkeypatch):
    weights = ["data.parts.a.weight=2", "data.parts.b.weight=1"]
    folder = tmp_path / "run"
    run("train", monkeypatch, *mixture, *weights, *SETTINGS, f"output={folder}")
    report = assert_report(folder)
    rows = pq.read_table(folder / "rows.parquet").to_pylist()
    assert {row["source"] for row in rows} == set(report["by_source"]) == {"a", "b"}
    for name, part in report["by_source"].items():
        scores = [row["tuned_iou"] for row in rows if row["source"] == name and row["prompt"] == "box"]
        assert part["num_objects"] == len(scores)
        assert part["tuned"]["box"]["iou"] == pytest.approx(sum(scores) / len(scores))
    page = (folder / "report.html").read_text()
    assert "<th>Source</th>" in page
    assert "fine-tuned on a, b" in page
    run("evaluate", monkeypatch, f"checkpoint={folder}", "evaluation=short", f"output={tmp_path}/again")
    assert assert_report(tmp_path / "again")["by_source"] == report["by_source"]
    shutil.move(tmp_path / "a", tmp_path / "moved")
    moved = [setting.replace(f"{tmp_path}/a", f"{tmp_path}/moved") for setting in mixture]
    run("train", monkeypatch, *moved, *weights, *SETTINGS, "trainer.max_steps=5", f"resume={folder}")
    assert_report(folder)


def test_a_mixture_of_a_file_is_kept_in_the_cache(mixture, tmp_path, monkeypatch, capsys):
    parts = f"a: {{kind: folder, root: {tmp_path}/a}}\n    b: {{kind: coco, root: {tmp_path}/b}}"
    own = f"# @package _global_\ndefaults:\n  - override /data: mixture\ndata:\n  parts:\n    {parts}\n"
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "both.yaml").write_text(own)
    given = [f"--config-dir={tmp_path}/conf", "experiment=both", "loader.augmentation=null"]
    cache = ["tuning=frozen", "cache=on", f"cache.folder={tmp_path}/cache"]
    run("train", monkeypatch, *given, *cache, *SETTINGS, f"output={tmp_path}/run")
    assert "embedding cache: " in capsys.readouterr().err
    assert set(assert_report(tmp_path / "run")["by_source"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["data.parts.a.rot=x"], r"data.parts.a.rot: data=folder has no such setting; nearest: root"),
        (["data.parts.a.kind=foldr"], r"data.parts.a.kind=foldr: expected one of coco, coco_video, davis, folder"),
        (["data.parts.c.root=/tmp"], r"data.parts.c.kind=null: expected one of coco, coco_video, davis, folder"),
        (["data.parts.c.kind=npz"], r"data.parts.c.root: not given; add data.parts.c.root=..."),
        (["data.parts.a.check=false"], r"data.parts.a.check: is of all sources: data.check=False"),
        (["data.parts.a.root=/no/such"], r"data.parts.a.root=/no/such: no such file or folder"),
        (["data.parts.a.weight=2"], "b has no weight, others have"),
        (["data=folder", "data.root=/tmp"], "data.parts belongs to data=mixture: add that"),
    ],
)
def test_mistakes_are_answered(mixture, settings, expected, tmp_path, monkeypatch, capsys):
    given = mixture[1:] if settings[0] == "data=folder" else mixture
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *given, *settings, *SETTINGS, f"output={tmp_path}/run")
    assert expected in capsys.readouterr().err


def test_clips_and_images_train_together(tmp_path, monkeypatch):
    write_squares(tmp_path / "stills", 7)
    films = {"kind": "toy_video", "num_train": 2, "num_val": 1, "num_test": 1, "num_frames": 3, "image_size": 64}
    sources = [*(f"data.parts.films.{name}={value}" for name, value in films.items())]
    sources += ["data.parts.stills.kind=folder", f"data.parts.stills.root={tmp_path}/stills"]
    training = ["task.num_frames=2", "task.corrections=1", "task.max_val_frames=2", "trainer.max_steps=2"]
    settings = [one for one in SETTINGS if not one.startswith(("evaluation", "trainer.max_steps", "trainer.val"))]
    folder = tmp_path / "run"
    run("train", monkeypatch, "task=video", "data=mixture", *sources, *settings, *training, f"output={folder}")
    report = json.loads((folder / "report.json").read_text())
    assert set(report["by_source"]) == {"films", "stills"}
    assert set(report["by_source"]["stills"]["tuned"]["box"]) == {"j", "f", "j_and_f"}
