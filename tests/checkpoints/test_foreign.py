"""Checkpoints of other programs are read without running their code; files without a whole model are recognized."""

import argparse
import builtins
import os
from collections import OrderedDict, defaultdict, deque
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import nn
from transformers import SamModel

from sam_train.checkpoints import load_checkpoint, save_adapters, save_checkpoint
from sam_train.checkpoints.tensor_files import read_file
from sam_train.errors import InputError
from sam_train.tuning.surgery import Tuning
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build, same_weights

STATE = build().state_dict()


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


def wrapped(word: str) -> dict[str, torch.Tensor]:
    """Weights with every direct child of the model wrapped."""
    return {name.replace(".", f".{word}.", 1): tensor for name, tensor in STATE.items()}


def loaded(path: Path, config=CONFIG) -> nn.Module:
    model = build(config, seed=1)
    load_checkpoint(model, path)
    return model


class Trainer:
    """An object that a training code saves beside the weights."""

    def __init__(self) -> None:
        self.step = 3


BESIDE = {
    "numbers of numpy": {
        "best": np.float64(0.8),
        "dice": np.float32(0.2),
        "epoch": np.int64(3),
        "done": np.bool_(True),
    },
    "arguments": {"args": argparse.Namespace(lr=1e-4, path=Path("runs"))},
    "random states": {"numpy": np.random.default_rng(0).bit_generator.state, "array": np.arange(3)},
    "containers": {"log": defaultdict(list, loss=[1.0]), "last": deque([1, 2], maxlen=3), "seen": {1, 2}},
    "an object": {"trainer": Trainer()},
}
LAYOUTS = {
    "Lightning": {"state_dict": prefixed("model."), "hyper_parameters": argparse.Namespace(lr=1e-4), "epoch": 3},
    "torch-em (micro-sam)": {
        "model_state": prefixed("sam."),
        "optimizer_state": {},
        "best_metric": np.float32(0.2),
        "init": argparse.Namespace(),
    },
    "torch.compile of the whole": prefixed("_orig_mod."),
    "torch.compile of the image encoder": {
        name.replace("image_encoder.", "image_encoder._orig_mod."): tensor for name, tensor in STATE.items()
    },
    "torch.compile of each part": wrapped("_orig_mod"),
    "DataParallel of each part": wrapped("module"),
    "both, and a prefix": {"model": {f"net.module.{name}": tensor for name, tensor in wrapped("_orig_mod").items()}},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("content", [*LAYOUTS.values(), *({"model": STATE, **more} for more in BESIDE.values())])
def test_weights_are_read_whatever_else_is_in_the_file(content, zipped, tmp_path):
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    assert same_weights(loaded(tmp_path / "file.pth"), build())


@pytest.mark.parametrize("config", [CONFIG, SAM2_CONFIG], ids=["SAM", "SAM 2"])
@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel, lambda model: {"epoch": 3, "net": model}])
def test_a_whole_pickled_model_is_read_without_importing_its_classes(config, wrap, tmp_path):
    torch.save(wrap(build(config)), tmp_path / "model.pth")
    assert same_weights(loaded(tmp_path / "model.pth", config), build(config))


class Running:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [(builtins.exec, "open({!r}, 'w')"), (Path.touch, "{}"), (eval, "open({!r}, 'w')")])
def test_no_code_of_a_file_runs(call, tmp_path):
    function, argument = call
    traces = tmp_path / "it_ran"
    torch.save({"model": STATE, "odd": Running(function, argument.format(str(traces)))}, tmp_path / "file.pth")
    with suppress(InputError):
        assert same_weights(loaded(tmp_path / "file.pth"), build())
    assert not traces.exists()


def test_a_file_that_calls_the_system_is_refused_without_a_workaround(tmp_path):
    torch.save({"model": STATE, "odd": Running(os.system, f"touch {tmp_path}/it_ran")}, tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"posix\.system.*ask for the weights as safetensors") as caught:
        loaded(tmp_path / "file.pth")
    assert "weights_only=False" not in str(caught.value)
    assert not (tmp_path / "it_ran").exists()


def test_where_only_plain_values_are_allowed_the_advice_of_the_refusal_works(tmp_path):
    """Checkpoints of our own runs are read in this way."""
    file = tmp_path / "file.pth"
    torch.save({"model": build(), "args": argparse.Namespace()}, file)
    with pytest.raises(InputError, match=r"torch\.save\(model\.state_dict\(\), new_path\)"):
        read_file(file)
    model = torch.load(file, weights_only=False)["model"]
    torch.save(model.state_dict(), tmp_path / "new.pth")
    assert same_weights(loaded(tmp_path / "new.pth"), build())


def test_parts_of_the_model_s_own_names_are_not_taken_for_wrappers(tmp_path):
    model = build()
    model.image_encoder.neck.register_module("module", nn.Linear(2, 2))
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "file.pth")
    other = build(seed=1)
    other.image_encoder.neck.register_module("module", nn.Linear(2, 2))
    load_checkpoint(other, tmp_path / "file.pth")
    assert same_weights(other, model)


def cyclic():
    content = {"model": {}}
    content["model"]["parent"] = content
    return content


def deep():
    content = dict(STATE)
    for _ in range(200):
        content = {"model": content}
    return content


@pytest.mark.parametrize("content", [cyclic, deep])
def test_endlessly_nested_dictionaries_are_refused(content, tmp_path):
    torch.save(content(), tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"file\.pth: dictionaries within each other without end"):
        loaded(tmp_path / "file.pth")


def test_sam_hq_is_recognized(tmp_path):
    """Under its names in lkeab/hq-sam and in ``transformers``."""
    for name in ("mask_decoder.hf_token.weight", "mask_decoder.hq_token.weight"):
        torch.save({**STATE, name: torch.zeros(1, 32)}, tmp_path / "sam_hq_vit_b.pth")
        with pytest.raises(InputError, match=r"SAM-HQ.* give the official weights of that size instead"):
            loaded(tmp_path / "sam_hq_vit_b.pth")


def tuned(seed=2) -> nn.Module:
    model = build()
    Tuning("lora", rank=2).apply(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".lora_B" in name or "iou_token" in name:
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return model


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # PEFT's own use of transformers
def test_a_peft_folder_is_recognized_and_the_advice_works(tmp_path):
    save_checkpoint(build(), tmp_path / "base", "huggingface")
    adapted = tuned().eval()
    save_adapters(adapted, tmp_path / "adapters")
    with pytest.raises(InputError, match=r"a folder of PEFT.*merge_and_unload\(\)\.save_pretrained\(new_folder\)"):
        loaded(tmp_path / "adapters")
    base = SamModel.from_pretrained(tmp_path / "base")
    PeftModel.from_pretrained(base, tmp_path / "adapters").merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = loaded(tmp_path / "merged")
    assert not same_weights(merged, build())
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        embedding = adapted.encode_image(images).embedding
        torch.testing.assert_close(merged.encode_image(images).embedding, embedding, atol=1e-5, rtol=1e-5)


def test_adapters_with_and_without_their_model_are_recognized(tmp_path):
    save_adapters(tuned(), tmp_path / "adapters")
    with pytest.raises(InputError, match="LoRA adapters without the model that they belong to"):
        loaded(tmp_path / "adapters" / "adapter_model.safetensors")
    theirs = SamModel.from_pretrained(save_base(tmp_path))
    inject_adapter_in_model(LoraConfig(target_modules=["qkv"]), theirs)
    save_file(get_peft_model_state_dict(theirs, adapter_name="default"), tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match="LoRA adapters without the model that they belong to"):
        loaded(tmp_path / "alone.safetensors")
    torch.save(tuned().state_dict(), tmp_path / "beside.pth")
    with pytest.raises(InputError, match="a model with LoRA adapters beside its weights"):
        loaded(tmp_path / "beside.pth")


def save_base(tmp_path: Path) -> Path:
    save_checkpoint(build(), tmp_path / "base", "huggingface")
    return tmp_path / "base"


@pytest.mark.parametrize("prefix", ["", "mask_decoder.", "model.mask_decoder."])
def test_a_file_of_a_mask_decoder_alone_is_recognized(prefix, tmp_path):
    decoder = {prefix + name: tensor for name, tensor in build().mask_decoder.state_dict().items()}
    torch.save(decoder, tmp_path / "decoder.pth")
    with pytest.raises(InputError, match=r"a mask decoder without an image encoder.* whole\.update"):
        loaded(tmp_path / "decoder.pth")


def test_the_advice_for_a_mask_decoder_alone_works(tmp_path):
    save_checkpoint(build(), tmp_path / "base.pth")
    other = build(seed=3)
    decoder = {name: tensor for name, tensor in other.state_dict().items() if name.startswith("mask_decoder.")}
    torch.save(OrderedDict(decoder), tmp_path / "decoder.pth")
    whole = torch.load(tmp_path / "base.pth")
    whole.update(torch.load(tmp_path / "decoder.pth"))
    torch.save(whole, tmp_path / "whole.pth")
    both = loaded(tmp_path / "whole.pth")
    assert same_weights(both.mask_decoder, other.mask_decoder)
    assert same_weights(both.image_encoder, build().image_encoder)
