"""Adapters that were saved alone compute the same when PEFT loads them onto a model of ``transformers``."""

import pytest
import torch
from peft import PeftModel
from transformers import Sam2Model, SamModel

from sam_train.checkpoints import save_adapters, save_checkpoint
from sam_train.errors import InputError
from sam_train.models import build_model
from sam_train.structures import Prompts
from sam_train.tuning.surgery import Tuning
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build


@torch.no_grad()
def tuned(model, targets="attention"):
    """The model as after training: every trainable parameter has changed."""
    Tuning("lora", targets=targets, rank=3, alpha=5).apply(model)
    generator = torch.Generator().manual_seed(1)
    for value in model.parameters():
        if value.requires_grad:
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # PEFT's own use of transformers
@pytest.mark.parametrize("targets", ["attention", "linear"])
@pytest.mark.parametrize(("config", "opens"), [(CONFIG, SamModel), (SAM2_CONFIG, Sam2Model)], ids=["SAM", "SAM 2"])
@torch.no_grad()
def test_peft_loads_the_adapters_onto_the_base_in_transformers(config, opens, targets, tmp_path):
    model = build(config)
    save_checkpoint(model, tmp_path / "base", "huggingface")
    save_adapters(tuned(model, targets), tmp_path / "adapters")
    theirs = PeftModel.from_pretrained(opens.from_pretrained(tmp_path / "base"), tmp_path / "adapters").eval()
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[[30.0, 40.0]], [[90.0, 70.0]]])
    labels = torch.ones(2, 1, dtype=torch.long)
    ours = model.decode(model.encode_image(images), Prompts(points, labels), torch.tensor([0, 0]), True)
    expected = theirs(pixel_values=images, input_points=points[None], input_labels=labels[None], multimask_output=True)
    torch.testing.assert_close(ours.logits, expected.pred_masks[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.iou, expected.iou_scores[0], rtol=1e-4, atol=1e-4)


def test_a_model_without_adapters_or_without_a_peer_in_transformers_is_refused(tmp_path):
    with pytest.raises(InputError, match="not tuned with LoRA"):
        save_adapters(build(), tmp_path / "none")
    with pytest.raises(InputError, match="no such model"):
        save_adapters(tuned(build_model("mobile_sam", 256)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_model_and_its_adapters_are_never_saved_into_one_folder(tmp_path):
    """``transformers`` would load both, so that the adapters would count twice."""
    model = build()
    save_checkpoint(model, tmp_path / "whole", "huggingface")
    adapted = tuned(build())
    with pytest.raises(InputError, match="holds a whole model"):
        save_adapters(adapted, tmp_path / "whole")
    save_adapters(adapted, tmp_path / "adapters")
    with pytest.raises(InputError, match="holds adapters"):
        save_checkpoint(model, tmp_path / "adapters", "huggingface")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        save_adapters(adapted, tmp_path / "file")
