"""Checkpoints are read in all their forms; everything else is refused with a remedy."""

import json
import pickle

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from sam_train.checkpoints import load_checkpoint, save_checkpoint
from sam_train.checkpoints.reading import SHIPPED
from sam_train.errors import InputError
from sam_train.models import build_model
from tests.checkpoints.tiny import build, same_weights

STATE = build().state_dict()


def loaded(path):
    model = build(seed=1)
    load_checkpoint(model, path)
    return model


def prefixed(prefix):
    return {prefix + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(STATE, id="plain"),
        pytest.param({"model": STATE}, id="SAM 2"),
        pytest.param({"state_dict": prefixed("model."), "epoch": 3, "callbacks": {"best": 0.5}}, id="Lightning"),
        pytest.param({"model": STATE, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}}, id="training state"),
        pytest.param(prefixed("module."), id="DataParallel"),
        pytest.param({"model": prefixed("module.sam.")}, id="wrapped twice"),
        pytest.param({**STATE, "pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}, id="constants"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_checkpoints_of_common_training_codes_are_read(content, zipped, tmp_path):
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    assert same_weights(loaded(tmp_path / "file.pth"), build())


def test_safetensors_are_read_in_both_namings_with_any_suffix(tmp_path):
    save_file(STATE, tmp_path / "meta.safetensors")
    assert same_weights(loaded(tmp_path / "meta.safetensors"), build())
    save_checkpoint(build(), tmp_path / "folder", "huggingface")
    (tmp_path / "folder" / "model.safetensors").rename(tmp_path / "weights.bin")
    assert same_weights(loaded(str(tmp_path / "weights.bin")), build())


def sharded(folder):
    save_checkpoint(build(), folder, "huggingface")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {name: f"model-0000{index % 2 + 1}-of-00002.safetensors" for index, name in enumerate(tensors)}
    for shard in set(shards.values()):
        save_file({name: tensor for name, tensor in tensors.items() if shards[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return folder


def test_a_sharded_folder_is_read_and_a_missing_shard_is_named(tmp_path):
    folder = sharded(tmp_path / "folder")
    assert same_weights(loaded(folder), build())
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"not there: \['model-00002-of-00002.safetensors'\]"):
        loaded(folder)


@pytest.mark.parametrize("shard", ["../elsewhere.safetensors", "sub/elsewhere.safetensors", "/elsewhere.safetensors"])
def test_a_shard_outside_of_the_folder_is_not_read(shard, tmp_path):
    folder = sharded(tmp_path / "folder")
    save_file(STATE, tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(STATE, shard)}))
    with pytest.raises(InputError, match=rf"index\.json: names files outside of the folder: \['{shard}'\]"):
        loaded(folder)


@pytest.mark.parametrize("weight_map", [None, [], {}, "model.safetensors", {"a": 1}, {"a": ["model.safetensors"]}])
def test_an_index_that_does_not_map_tensors_to_files_is_named(weight_map, tmp_path):
    folder = sharded(tmp_path / "folder")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match=r"index\.json: weight_map does not say which file each tensor is in"):
        loaded(folder)


def test_two_models_in_one_file_are_refused(tmp_path):
    torch.save({"model": STATE, "ema": prefixed("module.")}, tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"2 models in it, at 'model/', 'ema/'"):
        loaded(tmp_path / "file.pth")


def truncated(tmp_path):
    torch.save(STATE, tmp_path / "whole.pth")
    return (tmp_path / "whole.pth").read_bytes()[:50_000]


def truncated_safetensors(tmp_path):
    save_file(STATE, tmp_path / "whole.safetensors")
    return (tmp_path / "whole.safetensors").read_bytes()[:50_000]


def other_model(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    return (tmp_path / "linear.pth").read_bytes()


def a_list(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    return (tmp_path / "list.pth").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda _: b"", "empty .0 bytes."),
        (lambda _: b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (lambda _: b"PNG and then something else", "begins with b'PNG"),
        (lambda _: pickle.dumps(object(), protocol=2), "damaged or not a checkpoint"),
        (truncated, "end of the file is missing"),
        (truncated_safetensors, "damaged"),
        (a_list, "found a list"),
        (other_model, "no SAM in it.*weight, bias"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_with_a_remedy(content, message, tmp_path):
    (tmp_path / "file.pth").write_bytes(content(tmp_path))
    with pytest.raises(InputError, match=rf"file\.pth: .*{message}"):
        loaded(tmp_path / "file.pth")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_found_by_name_and_have_a_model_card(name):
    model = build_model(name)
    load_checkpoint(model, name)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    card = SHIPPED[name][0].with_name(f"{name}.md")
    assert card.read_text().startswith(f"# Model card: {name}")


def test_a_missing_path_is_named():
    with pytest.raises(InputError, match=r"no checkpoint at nowhere/sam\.pth: there is no such file"):
        loaded("nowhere/sam.pth")


def test_a_folder_without_config_or_weights_is_refused_with_its_content(tmp_path):
    torch.save(STATE, tmp_path / "sam.pth")
    with pytest.raises(InputError, match=r"has a config.json.*sam\.pth"):
        loaded(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        loaded(tmp_path)
    (tmp_path / "config.json").write_text("<html>")
    save_file(STATE, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"config\.json: not readable as JSON"):
        loaded(tmp_path)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The cache of a hub that cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_an_unreachable_hub_is_reported_with_what_to_download(hub_cache):
    with pytest.raises(InputError, match=r"someone/sam-tiny.*download config.json and model.safetensors.*one folder"):
        loaded("someone/sam-tiny")


def test_a_cached_repository_is_read_without_the_hub(hub_cache):
    commit = "0" * 40
    repository = hub_cache / "models--someone--sam-tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    save_checkpoint(build(), repository / "snapshots" / commit, "huggingface")
    assert same_weights(loaded("someone/sam-tiny"), build())


def test_a_folder_written_before_safetensors_is_read(tmp_path):
    save_checkpoint(build(), tmp_path, "huggingface")
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert same_weights(loaded(tmp_path), build())
