"""``sam-data`` as a person types it."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam_train.inference.overlay import BOX_COLOR, OBJECT_COLOR
from sam_train.prompts.simulator import PromptSimulator
from tests.e2e.commands import SMALL, run, write_squares
from tests.parity.reference import SHARED

DATA = SHARED / "data"
DRAWN = {"box": BOX_COLOR, "point": OBJECT_COLOR}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")


@needs_data
def test_a_sound_set_is_found_sound(tmp_path, monkeypatch, capsys):
    page = tmp_path / "balloon.html"
    for _ in range(2):  # the second replaces the first's page
        run("data", monkeypatch, "check", "data=coco", f"data.root={DATA}/balloon", f"output={page}")
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "24", "0", "123", "0", "1"] in [line[:6] for line in words]
    text = page.read_text(encoding="utf-8")
    assert "Sound: nothing would stop training." in text
    assert "34 images of" in text


def test_broken_files_are_all_named_with_exit_code_1(tmp_path, monkeypatch, capsys):
    write_squares(tmp_path / "data", 12)
    for name in ("3.png", "5.png", "8.png"):
        (tmp_path / "data" / "images" / name).write_bytes(b"\x89PNG")
    with pytest.raises(SystemExit) as end:
        run("data", monkeypatch, "check", f"data.root={tmp_path}/data", f"output={tmp_path}/page.html")
    assert end.value.code == 1
    told, page = capsys.readouterr().out, (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "found images/ and masks/, 12 images: data=folder" in told
    assert "the data has 3 problem(s)" in told
    for name in ("3.png", "5.png", "8.png"):
        assert f"images/{name}: " in told
        assert f"images/{name}: " in page


def test_somebody_elses_page_is_left_alone(tmp_path, monkeypatch, capsys):
    page = tmp_path / "thesis.html"
    page.write_text("<html>my thesis</html>")
    with pytest.raises(SystemExit) as end:
        run("data", monkeypatch, "check", "data=toy", f"output={page}")
    assert end.value.code == 2
    assert "is there already, and sam-data check did not make it" in capsys.readouterr().err
    assert page.read_text() == "<html>my thesis</html>"


@pytest.fixture
def first_prompts(monkeypatch):
    """What a simulated person gives for training batches, as it is given: ids, images, prompts."""
    found = []
    first = PromptSimulator.first

    def noted(simulator, batch):
        prompts = first(simulator, batch)
        if "/train/" in batch.ids[0]:  # no evaluation, no image of noise
            found.append((batch.ids, batch.images, prompts))
        return prompts

    monkeypatch.setattr(PromptSimulator, "first", noted)
    return found


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_the_sheet_shows_the_images_and_prompts_that_training_with_the_same_words_sees(
    tmp_path, monkeypatch, first_prompts
):
    words = [*SMALL, "trainer.max_steps=5", "prompts.mask=1", "seed=3"]
    words += ["loader.micro_batch=null", "loader.micro_objects=null"]
    words += ["evaluation.overlays=0", "evaluation.pictures=0", "evaluation.protocols=[box]"]
    run("train", monkeypatch, *words, f"output={tmp_path}/run")
    trained = list(first_prompts)
    first_prompts.clear()
    run("data", monkeypatch, "preview", *words, "number=10", f"output={tmp_path}/sheet.png")
    assert len(trained) == len(first_prompts) == 5  # the last batch is of the second epoch
    for (ids, images, prompts), (their_ids, their_images, their_prompts) in zip(trained, first_prompts, strict=True):
        assert ids == their_ids
        assert torch.equal(images, their_images)
        for name in ("points", "labels", "masks", "has_mask"):
            assert torch.equal(getattr(prompts, name), getattr(their_prompts, name))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 320 + 3 * 6, 3 * (320 + 22) + 2 * 6)


@needs_data
def test_boxes_clicks_and_outlines_are_drawn_on_a_real_set(tmp_path, monkeypatch):
    words = [f"data.root={DATA}/fruits_nuts", "loader.augmentation=null", "number=2", f"output={tmp_path}/sheet.png"]
    for prompts in ("box", "point"):
        run("data", monkeypatch, "preview", f"prompts={prompts}", *words)
        with Image.open(tmp_path / "sheet.png") as sheet:
            colors = np.array(sheet)[22:].reshape(-1, 3)
        drawn = {name for name, color in DRAWN.items() if (colors == color).all(axis=1).sum() > 50}
        assert drawn == {prompts}


def test_a_sheet_of_clips_is_refused_in_words(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("data", monkeypatch, "preview", "data=toy_video", "task=video", f"output={tmp_path}/sheet.png")
    assert "task=video: clips are not drawn; leave task out" in capsys.readouterr().err


@needs_data
def test_a_converted_set_is_recognized_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    words = [f"data.root={DATA}/fruits_nuts", "format=coco", f"output={tmp_path}/new"]
    for _ in range(2):
        run("data", monkeypatch, "convert", *words)
    assert capsys.readouterr().out.count(f"13 images: {tmp_path}/new") == 2
    run("data", monkeypatch, "check", f"data.root={tmp_path}/new", f"output={tmp_path}/page.html")
    lines = capsys.readouterr().out.splitlines()
    assert "found COCO json" in lines[0]
    assert ["train", "9", "0", "86", "0", "0"] in [line.split()[:6] for line in lines]


def test_an_output_in_the_data_is_refused(tmp_path, monkeypatch, capsys):
    write_squares(tmp_path, 8)
    with pytest.raises(SystemExit):
        run("data", monkeypatch, "convert", f"data.root={tmp_path}", "format=coco", f"output={tmp_path}/new")
    assert "lies in data.root=" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
