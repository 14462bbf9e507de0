"""Boxes by text, through a detector of random weights; masks in them are named by the phrase."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from pycocotools.coco import COCO

from sam_train.cli import predict
from sam_train.errors import InputError
from sam_train.inference.text_detector import TextDetector
from tests.inference.tiny_detector import write_detector

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools with numpy 2
]


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector") / "tiny"
    write_detector(folder)
    return folder


def picture():
    rows, columns = np.mgrid[:70, :90]
    pixels = np.full((70, 90, 3), 30, np.uint8)
    pixels[np.hypot(rows - 35, columns - 40) < 20] = (220, 180, 60)
    return pixels


def test_boxes_are_those_of_the_pipeline_on_the_image(detector):
    from transformers import pipeline

    plain = pipeline("zero-shot-object-detection", model=str(detector), device="cpu")
    expected = plain(Image.fromarray(picture()), candidate_labels=["a disc.", "a coin."], threshold=0.1)
    assert expected
    pixels = torch.from_numpy(picture()).permute(2, 0, 1)
    found = TextDetector(str(detector), ["a disc.", "a coin."], 0.1, "cpu").find(pixels)
    assert [one.score for one in found] == pytest.approx([one["score"] for one in expected])
    assert [one.category for one in found] == [one["label"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.box[0] == max(other["box"]["xmin"], 0)
        assert one.box[3] == min(other["box"]["ymax"], 70)


def test_what_a_phrase_names_is_in_the_outputs(detector, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    Image.fromarray(picture()).save(tmp_path / "images" / "a.png")
    GlobalHydra.instance().clear()
    arguments = [
        "checkpoint=sam2_nano",
        "image_size=64",
        "device=cpu",
        f"images={tmp_path / 'images'}",
        f"output={tmp_path / 'M'}",
        "text='a disc.'",
        f"detector={detector}",
        "detector_threshold=0.1",
    ]
    monkeypatch.setattr(sys, "argv", ["sam-predict", *arguments])
    predict.main()
    coco = COCO(str(tmp_path / "M" / "instances.json"))
    assert [category["name"] for category in coco.cats.values()] == ["a disc."]
    assert coco.anns
    features = json.loads((tmp_path / "M" / "polygons" / "a.geojson").read_text())["features"]
    assert {feature["properties"]["category"] for feature in features} == {"a disc."}


def test_what_to_install_and_to_give_is_said_beforehand(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="grounding-dino-tiny"):
        TextDetector(str(tmp_path), ["a disc."], 0.1, "cpu").find(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="empty phrase"):
        TextDetector(str(tmp_path), [" "], 0.1)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name))
    with pytest.raises(InputError, match=r"pip install 'sam-train\[text\]'"):
        TextDetector(str(tmp_path), ["a disc."], 0.1)
