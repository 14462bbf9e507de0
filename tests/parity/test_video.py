"""Objects are followed as the official video predictor followed them, call by call.

The noise that the recipe of sam2.1_hiera_t states, up to 1 on logits, is none: its second run, on one thread, filled
holes in the masks, and so did the scenario "long" in both, for which the recipe does not say so (ours with holes
filled differs from what is stored by exactly the stated noise). What is stored is repeated here to some thousandths,
so every step of every scenario is compared.
"""

import json
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch.testing import assert_close

from sam_train.models import build_model
from tests.parity.official_predictor import OfficialPredictor, Settings
from tests.parity.reference import ROOT, formula, needs_reference, python_slice
from tests.parity.test_object_pointers import as_the_video_loader

pytestmark = needs_reference

PRESETS = {"sam2.1_hiera_t": "sam2.1_hiera_tiny", "sam2_hiera_t": "sam2_hiera_tiny"}
# In this scenario the recipe leaves out one propagation, after which the second object is added.
LEFT_OUT = {("sam2.1_hiera_t", "late_object_float32_memory"): 1}

# Scenarios that were run with holes of up to 8 pixels filled; of the last one the recipe does not say so.
FILLED = ("forward_fill_holes", "long_float32_memory")

BEFORE_MEMORY = {"logits": 1e-4, "pointer": 1e-4, "score": 1e-5}
# Masks of prompted frames are remembered as sets of pixels. Where a logit is within rounding of zero (some twenty
# pixels of a million are within 1e-4) one pixel is in or out, which is worth up to 8e-4 on logits later; and what is
# remembered in bfloat16 is rounded up or down.
AFTER = {"logits": 4e-3, "pointer": 2e-3, "score": 4e-4}
MEMORY = {torch.float32: 1e-3, torch.bfloat16: 4e-3}  # mean error of memories whose standard deviation is 3.4


def fill_holes(logits: torch.Tensor) -> torch.Tensor:
    """As the official predictor does on CUDA: background of up to 8 pixels that touch each other becomes 0.1."""
    filled = logits.clone()
    for mask in filled.flatten(0, 1):
        regions, _ = ndimage.label((mask <= 0).numpy(), np.ones((3, 3)))
        sizes = np.bincount(regions.ravel())
        mask[torch.from_numpy((regions > 0) & (sizes[regions] <= 8))] = 0.1
    return filled


@dataclass
class Recipe:
    """What one model is said to have done; frames are encoded once."""

    name: str
    encoded: dict = field(default_factory=dict)

    @cached_property
    def content(self) -> dict:
        return json.loads((ROOT / self.name / "video.json").read_text())

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(ROOT / self.name / "video.safetensors")

    def scenario(self, name: str) -> dict:
        return next(scenario for scenario in self.content["scenarios"] if scenario["name"] == name)

    @cached_property
    def model(self):
        return build_model(PRESETS[self.name]).eval()

    def load(self, overrides: dict) -> None:
        weights = self.content["weights"]
        state = formula().reference_state_dict(ROOT / self.name / "keys.json", weights["seed"])
        self.model.load_state_dict(formula().apply_overrides(state, {**weights["overrides"], **overrides}))

    def clip(self, scenario: dict) -> tuple[dict, torch.Tensor, torch.Tensor]:
        clip = {**self.content["clip"], **scenario.get("clip", {})}
        frames, masks = formula().reference_clip(clip["seed"], clip["num_frames"], clip["height"], clip["width"])
        return clip, frames, masks

    def predictor(self, scenario: dict) -> OfficialPredictor:
        clip, frames, _ = self.clip(scenario)

        def features(frame: int):
            key = clip["seed"], clip["num_frames"], frame
            if key not in self.encoded:  # object scores, which scenarios shift, are not the encoder's
                pixels = as_the_video_loader(frames[frame], self.model.preprocessing)
                self.encoded[key] = self.model.encode_image(pixels)
            return self.encoded[key]

        return OfficialPredictor(self.model, features, clip["num_frames"], (clip["height"], clip["width"]))

    def settings(self, scenario: dict) -> Settings:
        changed = scenario.get("settings", {})
        return Settings(
            add_all_frames_to_correct_as_cond=changed.get("add_all_frames_to_correct_as_cond", False),
            non_overlap_masks=changed.get("non_overlap_masks", False),
            memory_dtype=getattr(torch, changed.get("memory_dtype", "bfloat16")),
            fill_holes=fill_holes if scenario["name"] in FILLED else None,
        )


recipe = cache(Recipe)


@torch.no_grad()
def replay(name: str, scenario_name: str, until: int | None = None) -> OfficialPredictor:
    """Everything that was called, compared with what came out; up to a frame where only the first are of interest."""
    some = recipe(name)
    scenario = some.scenario(scenario_name)
    if "continues" in scenario:
        predictor = replay(name, scenario["continues"])
    else:
        some.load(scenario.get("weights_overrides", {}))
        predictor = some.predictor(scenario)
    predictor.settings = some.settings(scenario)
    steps = list(enumerate(scenario["steps"]))
    while steps:
        index, step = steps.pop(0)
        if LEFT_OUT.get((name, scenario_name)) == index:
            for _ in predictor.propagate():
                pass
        if step["call"] == "propagate_in_video":
            way = step["start_frame_idx"], step["reverse"]
            for frame, logits in predictor.propagate(*way):
                if step is not None and frame == step["frame"]:
                    check(some, predictor, step, logits)
                    follows = bool(steps) and steps[0][1]["call"] == "propagate_in_video"
                    goes_on = follows and (steps[0][1]["start_frame_idx"], steps[0][1]["reverse"]) == way
                    step = steps.pop(0)[1] if goes_on else None
                if frame == until:
                    return predictor
        elif step["call"] == "add_new_mask":
            mask = some.clip(scenario)[2][0, 0]
            check(some, predictor, step, predictor.add_mask(step["object_id"], step["frame"], mask))
        else:
            prompts = step["points"], step["labels"], step["box"], step["clear_old_points"]
            check(some, predictor, step, predictor.add_points(step["object_id"], step["frame"], *prompts))
    return predictor


def check(some: Recipe, predictor: OfficialPredictor, step: dict, logits: torch.Tensor) -> None:
    tolerance = AFTER if predictor.has_tracked else BEFORE_MEMORY
    frame, stored, settings = step["frame"], step["tensors"], predictor.settings
    objects = [predictor.objects[number] for number in step["object_ids"]]
    # Rounding decides which pixels belong to a hole, and which object is in front: there the whole logit is another.
    share_that_may_jump = 2e-3 if settings.fill_holes or settings.non_overlap_masks else 0

    def expected(tensor: str, like: torch.Tensor) -> torch.Tensor:
        return some.tensors[tensor].reshape(like.shape).to(like.dtype)

    def compare(what: str, actual: torch.Tensor, tensor: str) -> None:
        is_off = (actual - expected(tensor, actual)).abs() > tolerance[what]
        assert is_off.float().mean() <= (share_that_may_jump if what == "logits" else 0), f"{what} of {tensor}"

    rows, columns = (python_slice(stored["video_logits"][side]) for side in ("rows", "columns"))
    compare("logits", logits[..., rows, columns], stored["video_logits"]["tensor"])
    if "masks" in stored:
        bits = np.unpackbits(some.tensors[stored["masks"]].numpy().reshape(len(objects), -1), axis=1)
        masks = torch.from_numpy(bits[:, : logits[0].numel()]).bool().view_as(logits)
        is_off = (masks != (logits > 0)) & (logits.abs() > tolerance["logits"])
        assert is_off.float().mean() <= share_that_may_jump
    if "low_res_logits" in stored:
        shown, memories = zip(*((one.shown[frame], one.memory(frame)) for one in objects), strict=True)
        compare("logits", torch.cat([one.logits for one in shown])[..., 3::8, 3::8], stored["low_res_logits"])
        compare("score", torch.cat([one.object_score for one in shown]), stored["object_score_logits"])
        compare("pointer", torch.stack([memory.pointer for memory in memories]), stored["object_pointer"])
        values = torch.stack([memory.values.float().T.unflatten(1, (64, 64)) for memory in memories])
        values = values[:, ::8, 1::8, 1::8]
        error = (values - expected(stored["memory_features"], values)).abs()
        assert error.mean() < MEMORY[settings.memory_dtype]
        assert error.max() < 0.2  # of up to 14


def everything() -> list:
    contents = {name: ROOT / name / "video.json" for name in PRESETS}
    return [
        (name, scenario["name"])
        for name, path in contents.items()
        if path.is_file()
        for scenario in json.loads(path.read_text())["scenarios"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scenario"), everything())
def test_every_call_returns_what_the_official_predictor_returned(name, scenario):
    replay(name, scenario)


@torch.no_grad()
def test_the_first_frames_are_those_of_the_official_predictor(monkeypatch):
    """A mask and a box with a click on one frame, both objects on the next, and what memory attention says there."""
    name, scenario = "sam2_hiera_t", "mask_prompt_float32_memory"
    some, recalled = recipe(name), []
    recall = some.model.recall
    monkeypatch.setattr(some.model, "recall", lambda *inputs: recalled.append(recall(*inputs)) or recalled[-1])
    replay(name, scenario, until=1)
    stated = {entry["name"]: entry.get("output") for entry in some.content["intermediates"]}
    for index, embedding in enumerate(recalled[0]):
        tensor, cells = f"intermediates/{scenario}/memory_attention/{index}", embedding.flatten(1).T
        assert_close(cells[5::32, ::8], some.tensors[tensor].reshape(128, 32), atol=1e-4, rtol=0)
        whole = {"mean": cells.mean(), "std": cells.std(correction=0), "absmax": cells.abs().max()}
        expected = {key: stated[tensor][key] for key in whole}
        assert_close({key: value.item() for key, value in whole.items()}, expected, atol=1e-4, rtol=0)
