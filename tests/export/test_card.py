"""A model card says what the run's record and report say, and nothing else."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
import yaml
from PIL import Image

from sam_train.evaluation.report import Report
from sam_train.export.card import model_card, read_report, write_card
from sam_train.export.targets import write
from sam_train.export.usage import usage
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build

RECORD = {
    "config": {
        "data": {"_target_": "sam_train.data.sources.folder.FolderSource", "root": "/secret/place/polyps"},
        "model": {"preset": "sam_vit_b", "weights": "/secret/sam_vit_b_01ec64.pth", "image_size": None},
        "tuning": {"encoder": "lora", "rank": 8, "targets": "attention", "prompt_encoder": True, "mask_decoder": True},
        "optim": {"lr": 1e-4, "weight_decay": 0.01},
        "loader": {"batch_size": 4, "max_objects": 8, "min_area": 16.0},
        "prompts": {"box": 1, "point": 1, "center": 0.0, "mask": 0.0, "given": 0.0, "corrections": 1},
        "trainer": {"max_steps": 60},
        "seed": 3,
    },
    "versions": {"python": "3.11.7", "torch": "2.15.0"},
    "devices": 2,
    "images": {"train": [1] * 20, "val": [2] * 5},
}
REPORT = Report(
    untuned={"box": {"iou": 0.7}, "point": {"iou": 0.6}},
    tuned={"box": {"iou": 0.8}, "point": {"iou": 0.5}},
    num_images=6,
    num_objects=31,
    num_too_small=2,
    split="test",
    metrics={"iou": {"title": "IoU", "higher_is_better": True}},
    num_groups=6,
    differences={
        "box": {"iou": {"mean": 0.1, "low": 0.05, "high": 0.15}},
        "point": {"iou": {"mean": -0.1, "low": -0.2, "high": -0.02}},
    },
)


def parts(card):
    _, front, text = card.split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_card_has_data_recipe_scores_with_intervals_license_and_limits():
    front, text = parts(model_card("polyps", RECORD, REPORT, "huggingface", "CODE"))
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "mask-generation",
        "license": "apache-2.0",
        "tags": ["segment-anything", "sam", "lora"],
    }
    for line in (
        "# polyps",
        "CODE",
        "- Folder: `polyps`",
        "- 20 images in the part that trains, 5 to choose the checkpoint by",
        "- base: `sam_vit_b`, weights: sam_vit_b_01ec64.pth",
        "- image encoder: LoRA of rank 8 on attention; prompt encoder: trained; mask decoder: trained",
        "- 60 steps of 8 images with up to 8 objects each, AdamW with a rate of 0.0001 and a decay of 0.01, seed 3",
        "- prompts in training: box, point; corrective clicks: 1",
        "31 objects of 6 held-out images (split `test`).",
        "| box | IoU | 0.700 | 0.800 | +0.100 | +0.050 to +0.150 |",
        "- The intervals are rough: they rest on 6 groups.",
        "- Prompted by point it is worse than the untuned model: IoU.",
        "- 2 held-out objects of less than 16 pixels are not in the scores.",
        "The weights that it began with are Apache-2.0, judged by the name of their file or repository.",
    ):
        assert line in text.splitlines()
    assert "secret" not in text


def test_a_run_that_was_not_evaluated_is_said_to_be_so(tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    assert read_report(checkpoint) is None
    _, text = parts(model_card("polyps", RECORD, None, "meta", "CODE"))
    assert "Not evaluated: the run has no report of this checkpoint." in text
    assert "- Nothing is known of how good it is." in text
    (tmp_path / "report.json").write_text(json.dumps(asdict(REPORT)))
    assert read_report(checkpoint) == REPORT
    (tmp_path / "best.ckpt").touch()
    assert read_report(checkpoint) is None  # the scores are those of the best one
    assert read_report(tmp_path / "best.ckpt") == REPORT


def test_a_run_on_clips_is_said_to_be_one():
    task = {"num_frames": 8, "mask": 0.5, "point": 0.25, "box": 0.0, "corrections": 7}
    config = {**RECORD["config"], "task": task, "trainer": {"max_steps": -1}}
    _, text = parts(model_card("polyps", {**RECORD, "config": config, "horizon": 90}, None, "meta", "CODE"))
    assert "- 90 steps of 8 clips of 8 frames with up to 8 objects each" in text
    assert "- prompts in training: point, mask; corrective clicks: 7" in text.splitlines()


def test_the_code_for_peft_names_no_folder_of_this_machine():
    code = usage(build(), "sam_vit_b", "/secret/place/medsam", "tuned", "peft")
    assert 'from_pretrained("medsam")' in code
    assert "secret" not in code


@pytest.mark.parametrize(
    ("weights", "base", "license_", "said"),
    [
        ("facebook/sam-vit-base", "facebook/sam-vit-base", "apache-2.0", "are Apache-2.0, judged by the name"),
        ("someone/medical-sam", "someone/medical-sam", None, "is not known here, and applies"),
        ("facebook/sam3", "facebook/sam3", None, "is not known here, and applies"),
        ("random", None, None, "Trained from scratch"),
        (None, None, "apache-2.0", "are Apache-2.0, judged by the name"),
    ],
)
def test_the_license_is_claimed_only_for_weights_that_are_known(weights, base, license_, said):
    model = {**RECORD["config"]["model"], "weights": weights}
    record = {**RECORD, "config": {**RECORD["config"], "model": model}}
    front, text = parts(model_card("polyps", record, None, "peft", "CODE"))
    assert (front.get("base_model"), front.get("license"), front["library_name"]) == (base, license_, "peft")
    assert said in text


def test_a_readme_that_is_not_a_card_is_left_alone(tmp_path):
    assert write_card(tmp_path, model_card("a", RECORD, None, "meta", "CODE"))
    assert write_card(tmp_path, model_card("b", RECORD, None, "meta", "CODE"))
    assert "# b" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("# My project\n")
    assert not write_card(tmp_path, model_card("a", RECORD, None, "meta", "CODE"))
    assert (tmp_path / "README.md").read_text() == "# My project\n"


@pytest.mark.parametrize(
    ("config", "format_"),
    [
        pytest.param(CONFIG, "huggingface", id="SAM, transformers"),
        pytest.param(SAM2_CONFIG, "huggingface", id="SAM 2, transformers"),
        pytest.param(CONFIG, "onnx", id="SAM, onnxruntime", marks=pytest.mark.slow),
        pytest.param(SAM2_CONFIG, "onnx", id="SAM 2, onnxruntime"),
        pytest.param(CONFIG, "torch", id="SAM, torch.export", marks=pytest.mark.slow),
    ],
)
def test_the_code_on_the_card_runs(config, format_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sam_train.export.reloading.find_spec", lambda name: None)  # tested elsewhere
    model = build(config)
    write(model, model, tmp_path / "tuned", format_)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    (code,) = re.findall(r"```python\n(.*)```", usage(model, "tiny", "tiny", "tuned", format_), re.DOTALL)
    names = {}
    exec(compile(code, "card", "exec"), names)
    found = names["logits"] if format_ == "torch" else names["masks"]
    assert tuple(found.shape[-2:]) == ((32, 32) if format_ == "torch" else (60, 90))
