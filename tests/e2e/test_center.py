"""From a training with ``prompter=center`` to named objects without a prompt, as a person types it."""

import json
import sys

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from pycocotools.coco import COCO

from sam_train.cli import predict
from tests.e2e.commands import run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools with numpy 2
]

NAMES = {3: "brick", 8: "tile"}


def write_coco(folder, number):
    """Bricks are wide and red, tiles are square and blue."""
    (folder / "images").mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [{"id": n, "name": name} for n, name in NAMES.items()]}
    for index in range(number):
        pixels = np.full((64, 64, 3), 40 + index, np.uint8)
        content["images"].append({"id": index, "file_name": f"{index}.png", "height": 64, "width": 64})
        for category, (x, y, width, height) in ((3, (4 + index, 6, 28, 12)), (8, (30, 34 + index, 18, 18))):
            pixels[y : y + height, x : x + width] = (220, 60, 40) if category == 3 else (40, 80, 230)
            ring = [x, y, x + width, y, x + width, y + height, x, y + height]
            number = len(content["annotations"])
            box, area = [x, y, width, height], width * height
            content["annotations"].append(
                {"id": number, "image_id": index, "category_id": category, "segmentation": [ring], "bbox": box}
                | {"area": area, "iscrowd": 0}
            )
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
    (folder / "annotations.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bricks")
    write_coco(folder, 10)
    arguments = [
        "data=coco",
        f"data.root={folder}",
        "prompter=center",
        "prompter.lr=3e-3",
        "tuning=frozen",
        "cache=on",
        f"cache.folder={folder / 'cache'}",
        "prompts=box",
        "model.image_size=64",
        "loader.num_workers=0",
        "loader.min_area=4",
        "trainer.accelerator=cpu",
        "trainer.max_steps=40",
        "trainer.val_check_interval=20",
        "+trainer.enable_progress_bar=false",
        "callbacks.progress=null",
        "evaluation.overlays=0",
        "evaluation.pictures=0",
        "evaluation.protocols=[box]",
        f"hydra.run.dir={folder / 'run'}",
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        run("train", monkeypatch, *arguments)
    return folder


def sam_predict(monkeypatch, *arguments):
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["sam-predict", *arguments])
    predict.main()


def test_one_command_without_a_prompt_leaves_named_masks(trained, tmp_path, monkeypatch, capsys):
    output = tmp_path / "M"
    where = (f"checkpoint={trained / 'run'}", f"images={trained / 'images'}", f"output={output}", "device=cpu")
    sam_predict(monkeypatch, *where, "min_score=0.2")
    assert "no prompt given: the checkpoint's head finds brick, tile" in capsys.readouterr().out
    coco = COCO(str(output / "instances.json"))
    assert {category["name"] for category in coco.cats.values()} == {"brick", "tile"}
    assert len(coco.imgs) == 10
    right = 0
    for one in coco.anns.values():
        name, (_, y, _, height) = coco.cats[one["category_id"]]["name"], one["bbox"]
        right += name == ("brick" if y + height / 2 < 30 else "tile")
        assert 0.2 <= one["score"] <= 1
    assert right > 0.7 * len(coco.anns) >= 10
    labels = np.array(Image.open(output / "labels" / "0.png"))
    assert labels.max() == len(coco.getAnnIds(imgIds=1))
    features = json.loads((output / "polygons" / "0.geojson").read_text())["features"]
    assert {feature["properties"]["category"] for feature in features} <= {"brick", "tile"}


def test_evaluation_without_prompts_has_the_head_beside_the_grid(trained, tmp_path, monkeypatch):
    loose = ("prompts.points_per_side=4", "prompts.pred_iou_thresh=0", "prompts.stability_score_thresh=0.3")
    report = tmp_path / "report"
    run(
        "evaluate",
        monkeypatch,
        f"checkpoint={trained / 'run'}",
        "prompts=everything",
        *loose,
        "accelerator=cpu",
        f"output={report}",
    )
    found = json.loads((report / "everything.json").read_text())
    assert found["head"].keys() >= {"AP", "AP50", "AP by name", "AR@1", "AR@1000", "decodes", "seconds"}
    assert found["tuned"]["decodes"] == 16 > found["head"]["decodes"] > 0
    page = (report / "everything.html").read_text()
    assert "head of the run, tuned model" in page
    assert f"{found['head']['AP']:.3f}" in page


def test_an_export_says_that_the_head_stays_behind(trained, tmp_path, monkeypatch, capsys):
    run("export", monkeypatch, f"checkpoint={trained / 'run'}", "format=meta", f"path={tmp_path / 'tuned.pth'}")
    assert "left out: the head that finds objects without a prompt" in capsys.readouterr().out


def test_without_a_head_and_a_prompt_it_is_said_what_to_give(trained, tmp_path, monkeypatch, capsys):
    arguments = ("checkpoint=sam2_nano", f"images={trained / 'images'}", f"output={tmp_path / 'M'}")
    with pytest.raises(SystemExit):
        sam_predict(monkeypatch, *arguments)
    told = capsys.readouterr().err
    assert "everything=true" in told
    assert "prompter=center" in told


def test_following_objects_and_finding_them_do_not_go_together(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "task=video", "data=toy_video", "prompter=center", f"hydra.run.dir={tmp_path}")
    assert "leave it out with task=video" in capsys.readouterr().err


def test_training_refuses_to_prompt_with_everything(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "prompts=everything", f"hydra.run.dir={tmp_path}")
    assert "prompts=everything: training wants prompts of objects" in capsys.readouterr().err
