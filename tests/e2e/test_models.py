"""Every family of models goes through the same command, and what it learned leaves in the layouts other tools read."""

import json

import pytest
import torch

from sam_train.checkpoints import load_checkpoint
from sam_train.checkpoints.huggingface import layout_of
from sam_train.models import build_model
from sam_train.runs.run import Run
from sam_train.tuning.lora import merged_state_dict
from tests.e2e.commands import SMALL, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


@pytest.mark.parametrize(
    ("model", "tuning"), [("slimsam_77_uniform", "full"), ("mobile_sam", "full"), ("sam2.1_hiera_tiny", "lora")]
)
def test_a_model_trains_is_evaluated_and_saved(model, tuning, tmp_path, monkeypatch):
    short = ["trainer.max_steps=2", "data.num_test=1", "prompts=box", f"hydra.run.dir={tmp_path}/run"]
    run("train", monkeypatch, *SMALL, *short, f"model={model}", "model.weights=random", f"tuning={tuning}")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["tuned"] != report["untuned"]
    checkpoint = tmp_path / "run" / "best.ckpt"
    finished = Run.load(checkpoint)
    untuned, tuned = finished.untuned(), finished.tuned()
    if tuning == "lora":
        run("export", monkeypatch, f"checkpoint={checkpoint}", "format=peft", f"path={tmp_path / 'peft'}")
        assert {path.name for path in (tmp_path / "peft").iterdir()} == {
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
        }
    weights = merged_state_dict(tuned)
    assert any(not torch.equal(weights[name], tensor) for name, tensor in untuned.state_dict().items())
    for format_ in ("meta", "huggingface") if layout_of(tuned) else ("meta",):
        run("export", monkeypatch, f"checkpoint={checkpoint}", f"format={format_}", f"path={tmp_path / format_}")
        loaded = build_model(model, 64)
        load_checkpoint(loaded, tmp_path / format_)
        with torch.no_grad():
            images = torch.zeros(1, 3, 64, 64)
            embedding = tuned.eval().encode_image(images).embedding
            torch.testing.assert_close(loaded.eval().encode_image(images).embedding, embedding, atol=1e-4, rtol=1e-4)
