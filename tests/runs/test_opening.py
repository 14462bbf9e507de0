"""A model by whatever a person has."""

import pytest
import torch

from sam_train.checkpoints import save_checkpoint
from sam_train.errors import InputError
from sam_train.models import build_model
from sam_train.runs.opening import open_model, open_predictor
from sam_train.structures import ImageFeatures
from tests.checkpoints.tiny import same_weights


@pytest.mark.parametrize("preset", ["sam_nano", "sam2_nano", "mobile_sam"])
def test_a_checkpoint_of_meta_is_recognized(preset, tmp_path):
    model = build_model(preset)
    save_checkpoint(model, tmp_path / "weights.pth")
    assert same_weights(open_model(tmp_path / "weights.pth", device="cpu"), model)


@pytest.mark.parametrize("preset", ["sam_nano", "sam2_nano"])
def test_a_folder_of_hugging_face_is_recognized(preset, tmp_path):
    model = build_model(preset)
    save_checkpoint(model, tmp_path, "huggingface")
    assert same_weights(open_model(tmp_path, device="cpu"), model)


def test_a_preset_is_opened_by_name_at_any_size():
    model = open_model("sam2_nano", image_size=128, device="cpu")
    assert model.preprocessing.image_size == 128
    assert not model.training
    predictor = open_predictor("sam_nano", device="cpu")
    assert isinstance(predictor.set_image(torch.zeros(3, 20, 30, dtype=torch.uint8)).features, ImageFeatures)


def test_a_preset_without_weights_is_refused():
    with pytest.raises(InputError, match="comes without weights"):
        open_model("sam_vit_h")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="no SAM in it"):
        open_model(tmp_path / "other.pth")
    torch.save({"mask_decoder.iou_token.weight": torch.zeros(1, 7)}, tmp_path / "small.pth")
    with pytest.raises(InputError, match="decoder without an image encoder"):
        open_model(tmp_path / "small.pth")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        open_model(tmp_path / "nothing.ckpt")
