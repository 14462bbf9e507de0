"""Learning rates by depth and over time, and parameters without weight decay."""

from itertools import pairwise

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from sam_train.errors import InputError
from sam_train.models import PRESETS, build_model
from sam_train.tuning.optimization import Optimization


def rates(model, optimization):
    optimizer = optimization.optimizer(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("name", PRESETS)
def test_layer_decay_lowers_the_rate_from_the_last_block_to_the_patches(name):
    with torch.device("meta"):
        model = build_model(name)
    found = rates(model, Optimization(lr=1.0, layer_decay=0.5))
    encoder = [(key, lr) for key, (lr, _) in found.items() if key.startswith("image_encoder.")]
    depths = sorted({lr for _, lr in encoder})
    num_blocks = len(model.image_encoder.steps)  # the stem is one level below
    assert depths == [0.5**k for k in range(num_blocks, -1, -1)]
    assert {lr for key, lr in encoder if "patch_embed" in key} == {0.5**num_blocks}
    assert {lr for key, (lr, _) in found.items() if "mask_decoder" in key} == {1.0}
    assert {lr for key, lr in encoder if ".neck." in key} == {1.0}


@pytest.mark.parametrize("name", PRESETS)
def test_layer_groups_contain_every_encoder_parameter_once(name):
    with torch.device("meta"):
        encoder = build_model(name).image_encoder
    grouped = [id(parameter) for group in encoder.layer_groups() for parameter in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in encoder.parameters()}


def test_the_downsampling_of_a_stage_comes_after_its_blocks():
    with torch.device("meta"):
        found = rates(build_model("mobile_sam"), Optimization(lr=1.0, layer_decay=0.5))
    order = [
        "layers.1.blocks.0.mlp.fc1.weight",
        "layers.1.blocks.1.mlp.fc1.weight",
        "layers.1.downsample.conv1.c.weight",
    ]
    first, last, reduced = (found[f"image_encoder.{name}"][0] for name in order)
    assert first < last < reduced < found["image_encoder.layers.2.blocks.0.mlp.fc1.weight"][0]


@pytest.mark.parametrize("name", ["sam_nano", "mobile_sam", "sam2.1_hiera_tiny"])
def test_norms_biases_and_tables_have_no_weight_decay(name):
    with torch.device("meta"):
        model = build_model(name)
    found = rates(model, Optimization(weight_decay=0.1))
    undecayed = {key for key, (_, decay) in found.items() if decay == 0}
    parameters = dict(model.named_parameters())
    assert all(
        key in undecayed for key, parameter in parameters.items() if parameter.requires_grad and parameter.ndim < 2
    )
    tables = ("pos_embed", "rel_pos", "attention_biases", "mask_tokens", "iou_token", "obj_score_token")
    for fragment in (*tables, "no_mask_embed", "no_mem_embed", "point_embeddings"):
        assert all(key in undecayed for key in found if fragment in key), fragment
    assert "mask_decoder.transformer.layers.0.mlp.lin1.weight" not in undecayed
    assert any("attn.qkv.weight" in key for key in found.keys() - undecayed)


def test_the_rate_warms_up_and_then_follows_a_cosine():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=2.0)
    schedule = Optimization(lr=2.0, warmup=0.1, final_lr=0.5).schedule(optimizer, 100)
    seen = []
    for _ in range(100):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert seen[0] == pytest.approx(2 / 11)
    assert max(seen) == seen[10] == 2.0
    assert seen[55] == pytest.approx(1.5)
    assert seen[-1] == pytest.approx(1.0, abs=0.01)
    assert all(a <= b for a, b in pairwise(seen[:11]))


def scheduled(optimization, num_steps, lrs=(2.0,)):
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])
    return optimizer, optimization.schedule(optimizer, num_steps)


def rates_of(optimizer, schedule, num_steps):
    rates = []
    for _ in range(num_steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


def test_one_group_follows_the_same_rates_as_torch_schedulers():
    optimization = Optimization(lr=2.0, warmup=0.1, final_lr=0.5)
    theirs = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    warmup = LinearLR(theirs, start_factor=1 / 11, total_iters=10)
    cosine = CosineAnnealingLR(theirs, T_max=90, eta_min=1.0)
    expected = rates_of(theirs, SequentialLR(theirs, [warmup, cosine], milestones=[10]), 100)
    found = rates_of(*scheduled(optimization, 100), 100)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-12, atol=0)


def test_all_groups_keep_the_same_ratio_to_their_peak_rate():
    """CosineAnnealingLR would bring all groups to one rate."""
    optimization = Optimization(warmup=0.2, final_lr=0.1)
    for high, low in rates_of(*scheduled(optimization, 20, lrs=(1.0, 0.01)), 30):
        assert low == pytest.approx(0.01 * high, rel=1e-12)


def test_the_rate_stays_at_its_minimum_after_the_horizon():
    """So the rate of a run that is resumed with more steps and its first horizon never jumps up."""
    found = [rate for (rate,) in rates_of(*scheduled(Optimization(lr=2.0, final_lr=0.01), 20), 60)]
    assert found[20:] == [pytest.approx(0.02)] * 40
    assert all(later <= earlier for earlier, later in pairwise(found[1:]))


def test_a_resumed_schedule_continues_exactly():
    optimization = Optimization(lr=2.0, warmup=0.1)
    whole = rates_of(*scheduled(optimization, 50), 70)
    optimizer, schedule = scheduled(optimization, 50)
    assert rates_of(optimizer, schedule, 30) == whole[:30]
    resumed, resumed_schedule = scheduled(optimization, 50)
    resumed.load_state_dict(optimizer.state_dict())
    resumed_schedule.load_state_dict(schedule.state_dict())
    assert rates_of(resumed, resumed_schedule, 40) == whole[30:]


@pytest.mark.parametrize(
    "arguments", [{"layer_decay": 0.0}, {"layer_decay": 1.5}, {"warmup": 1.0}, {"lr": -1.0}, {"weight_decay": -0.1}]
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(InputError, match="optim"):
        Optimization(**arguments)
