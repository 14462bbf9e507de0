"""Every target is opened again by what it is for, and a model that comes back otherwise is refused."""

from dataclasses import replace

import pytest
import torch

from sam_train.errors import InputError
from sam_train.export.agreement import agreement_of
from sam_train.export.reloading import check_huggingface, check_meta
from sam_train.export.targets import FORMATS, require_format, require_writable, write
from sam_train.models import build_model
from sam_train.tuning.surgery import Tuning
from tests.checkpoints.test_adapters import tuned
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build

FAMILIES = pytest.mark.parametrize("config", [CONFIG, SAM2_CONFIG], ids=["SAM", "SAM 2"])
IMAGES = replace(SAM2_CONFIG, version=None)


@pytest.mark.parametrize("config", [CONFIG, IMAGES], ids=["SAM", "SAM 2"])
@pytest.mark.parametrize("format_", ["huggingface", "meta", "peft"])
def test_a_target_is_opened_again_and_its_difference_is_told(config, format_, tmp_path):
    (check,) = write(build(config), tuned(build(config)), tmp_path / "out", format_)
    assert check.agreement.iou == 1
    assert check.agreement.difference < 1e-3
    assert "logits differ by at most" in str(check)
    class_name = "SamModel" if config is CONFIG else "Sam2Model"
    how = {"huggingface": f"opened as transformers.{class_name}", "peft": f"put by PEFT on transformers.{class_name}"}
    assert check.how == how.get(format_, "read again by the strict reader here (the official code was not run)")


def test_a_model_with_a_memory_is_opened_for_videos_too(tmp_path):
    model = build(replace(SAM2_CONFIG, dim=128))
    images, video = write(model, model, tmp_path, "huggingface")
    assert (images.how, video.how) == (
        "opened as transformers.Sam2Model",
        "opened as transformers.Sam2VideoModel, on two frames",
    )
    assert video.agreement.difference < 0.01


@FAMILIES
def test_a_folder_of_other_weights_is_refused(config, tmp_path):
    config = CONFIG if config is CONFIG else IMAGES
    write(build(config), build(config), tmp_path / "hf", "huggingface")
    write(build(config), build(config), tmp_path / "official.pth", "meta")
    with pytest.raises(InputError, match=r"masks have an IoU of 0\.\d+ with the model's own"):
        check_huggingface(build(config, seed=1), tmp_path / "hf")
    with pytest.raises(InputError, match="this is a fault of the export"):
        check_meta(build(config, seed=1), tmp_path / "official.pth")


def test_without_transformers_a_folder_is_written_and_said_to_be_unchecked(tmp_path, monkeypatch):
    monkeypatch.setattr("sam_train.export.reloading.find_spec", lambda name: None)
    (check,) = write(build(), build(), tmp_path, "huggingface")
    assert str(check) == "not checked: transformers is not installed"
    assert (tmp_path / "model.safetensors").is_file()


def test_an_agreement_says_the_largest_difference_and_has_bounds():
    logits = torch.full((2, 3, 4, 4), 2.0)
    agreement = agreement_of([logits], [logits + 0.25])
    assert (agreement.iou, agreement.difference) == (1.0, 0.25)
    with pytest.raises(InputError, match=r"^path=x: .* differ by up to 0\.25 \(at most 0\.05\); use another"):
        agreement.require("path=x", "use another")


@pytest.mark.parametrize(
    ("preset", "format_", "message"),
    [
        ("mobile_sam", "huggingface", "transformers has no mobile_sam; this model can be exported as meta, onnx"),
        ("mobile_sam", "peft", "transformers has no mobile_sam; this model can be exported as meta, onnx"),
        ("sam_nano", "peft", "the run tuned without LoRA, .* this model can be exported as huggingface, meta, onnx"),
        ("sam_nano", "onxx", "no such format; this model can be exported as huggingface, meta, onnx"),
    ],
)
def test_a_format_that_a_model_cannot_have_is_named_with_those_it_can(preset, format_, message):
    model = build_model(preset, 64)
    Tuning("full").apply(model)
    with pytest.raises(InputError, match=f"^format={format_}: {message}"):
        require_format(format_, model, preset)


def test_every_format_is_open_to_a_model_with_adapters():
    model = tuned(build())
    for format_ in FORMATS:
        assert require_format(format_, model, "tiny") is None


def test_a_path_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^path=.*file/below/model: cannot be written \(.+\); name another folder"):
        require_writable(tmp_path / "file" / "below" / "model")
    require_writable(tmp_path / "new" / "model")
    assert [path.name for path in (tmp_path / "new").iterdir()] == []
