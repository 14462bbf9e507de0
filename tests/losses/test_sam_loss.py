"""The loss equals SAM 2's own, values and gradients, and does not depend on how a batch is split."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torchvision.ops import sigmoid_focal_loss

from sam_train.errors import InputError
from sam_train.losses.sam_loss import SamLoss, Targets
from sam_train.structures import NUM_DRAWS, Batch, MaskPrediction
from tests.parity.reference import ROOT, needs_reference

CASES = [
    "single_step_multimask",
    "single_step_singlemask",
    "clicks",
    "all_absent",
    "defaults_multimask",
    "defaults_absent",
    "object_focal",
    "one_object",
    "extreme_logits",
]


def from_official(config: dict) -> SamLoss:
    weights = config["weight_dict"]
    return SamLoss(
        mask=weights["loss_mask"],
        dice=weights["loss_dice"],
        iou=weights["loss_iou"],
        object_score=weights.get("loss_class", 0.0),
        focal_alpha=config.get("focal_alpha", 0.25),
        focal_gamma=config.get("focal_gamma", 2.0),
        iou_error="l1" if config.get("iou_use_l1_loss") else "l2",
        iou_of="all" if config.get("supervise_all_iou") else "best",
        object_alpha=config.get("focal_alpha_obj_score", -1.0),
        object_gamma=config.get("focal_gamma_obj_score", 0.0),
    )


@needs_reference
@pytest.mark.parametrize("name", CASES)
def test_equals_sam2_training_loss(name):
    golden = json.loads((ROOT / "losses" / "golden.json").read_text())
    tensors = load_file(ROOT / "losses" / "golden.safetensors")
    case = next(case for case in golden["cases"] if case["name"] == name)
    loss = from_official(golden["configs"][case["config"]])
    targets = tensors[case["inputs"]["targets"]].bool()
    steps = []
    for step in case["inputs"]["per_step"]:
        inputs = {key: tensors[tensor].float().requires_grad_() for key, tensor in step.items()}
        score = inputs.get("object_score_logits")
        steps.append((inputs, MaskPrediction(inputs["logits"], inputs["ious"], None if score is None else score[:, 0])))
    terms = [loss(prediction, Targets(targets)) for _, prediction in steps]
    num_objects = len(targets)
    for ours, theirs in (("mask", "loss_mask"), ("dice", "loss_dice"), ("iou", "loss_iou")):
        total = sum(getattr(term, ours) for term in terms) / num_objects
        torch.testing.assert_close(total.item(), case["losses"][theirs], rtol=2e-6, atol=1e-6)
    if case["losses"]["loss_class"]:
        score = sum(term.object_score for term in terms) / num_objects
        torch.testing.assert_close(score.item(), case["losses"]["loss_class"], rtol=2e-6, atol=1e-6)
    total = sum(loss.total(term) for term in terms) / num_objects
    torch.testing.assert_close(total.item(), case["losses"]["core_loss"], rtol=2e-6, atol=1e-6)
    total.backward()
    for (inputs, _), gradients in zip(steps, case["gradients"], strict=True):
        for key, expected in gradients.items():
            if expected["none"]:
                assert inputs[key].grad is None or not inputs[key].grad.any()
                continue
            torch.testing.assert_close(inputs[key].grad, tensors[expected["tensor"]], rtol=1e-5, atol=1e-7)


def batch_of(masks: torch.Tensor, ignore: torch.Tensor | None = None) -> Batch:
    side, nowhere = masks.shape[-1], torch.zeros(len(masks), dtype=torch.long)
    size = torch.tensor([[side, side]])
    return Batch(None, masks, nowhere, size, size, torch.zeros(len(masks), NUM_DRAWS), ("a",), ignore=ignore)


def random_prediction(num_objects: int, seed: int) -> tuple[MaskPrediction, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_objects, 3, 16, 16, generator=generator, dtype=torch.float64)
    iou = torch.rand(num_objects, 3, generator=generator, dtype=torch.float64)
    score = torch.randn(num_objects, generator=generator, dtype=torch.float64)
    return MaskPrediction(logits, iou, score), torch.rand(num_objects, 16, 16, generator=generator) > 0.6


@settings(max_examples=20, deadline=None)
@given(num_objects=st.integers(2, 6), split=st.integers(1, 5), seed=st.integers(0, 1000))
def test_splitting_a_batch_changes_nothing(num_objects, split, seed):
    split = min(split, num_objects - 1)
    prediction, targets = random_prediction(num_objects, seed)
    loss = SamLoss()
    whole = loss(prediction, Targets(targets))
    parts = [
        loss(
            MaskPrediction(prediction.logits[part], prediction.iou[part], prediction.object_score[part]),
            Targets(targets[part]),
        )
        for part in (slice(None, split), slice(split, None))
    ]
    for name in whole._fields:
        torch.testing.assert_close(sum(getattr(part, name) for part in parts), getattr(whole, name))


def test_equal_candidates_cost_as_much_as_a_single_one():
    prediction, targets = random_prediction(3, 0)
    single = MaskPrediction(prediction.logits[:, :1], prediction.iou[:, :1])
    thrice = MaskPrediction(single.logits.expand(-1, 3, -1, -1), single.iou.expand(-1, 3))
    torch.testing.assert_close(SamLoss()(thrice, Targets(targets)), SamLoss()(single, Targets(targets)))


@pytest.mark.parametrize(
    ("side", "resolution", "expected"),
    [(1024, 256, 256), (512, 256, 256), (256, 256, 256), (320, 256, 320), (64, 256, 64), (64, 32, 32), (64, 1, 16)],
)
def test_masks_are_compared_at_the_resolution_of_the_setting_or_of_the_input(side, resolution, expected):
    targets = SamLoss(resolution=resolution).targets(batch_of(torch.ones(1, side, side).bool()))
    assert targets.masks.shape == (1, expected, expected)
    assert targets.counted is None


def test_full_resolution_compares_at_the_masks_own():
    prediction, _ = random_prediction(2, 1)
    masks = torch.rand(2, 64, 64) > 0.5
    full = SamLoss()(prediction, SamLoss().targets(batch_of(masks)))
    upsampled = MaskPrediction(
        torch.nn.functional.interpolate(prediction.logits, (64, 64), mode="bilinear"), prediction.iou
    )
    torch.testing.assert_close(full.mask, SamLoss()(upsampled, Targets(masks)).mask)


def test_an_unknown_choice_is_refused():
    with pytest.raises(InputError, match=r"loss\.iou_of"):
        SamLoss(iou_of="worst")
    with pytest.raises(InputError, match=r"loss\.resolution"):
        SamLoss(resolution=0)


@pytest.mark.parametrize("ignore", [None, torch.arange(64).expand(1, 64, 64) > 50])
@pytest.mark.parametrize("candidates", [1, 3])
def test_comparing_a_few_objects_at_a_time_changes_neither_value_nor_gradient(candidates, ignore, monkeypatch):
    prediction, _ = random_prediction(5, 2)
    masks = torch.rand(5, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.5
    masks[3] = False
    loss = SamLoss()
    results = []
    for max_values in (1, 2 * candidates * 64 * 64, 2**40):
        monkeypatch.setattr("sam_train.losses.sam_loss.MAX_VALUES", max_values)
        inputs = [
            values.clone().requires_grad_()
            for values in (prediction.logits[:, :candidates], prediction.iou[:, :candidates], prediction.object_score)
        ]
        total = loss.total(loss(MaskPrediction(*inputs), loss.targets(batch_of(masks, ignore))))
        results.append((total, *torch.autograd.grad(total, inputs)))
    for result in results[:-1]:
        torch.testing.assert_close(result, results[-1], rtol=1e-12, atol=1e-14)


def test_only_the_best_candidate_learns_its_mask_and_all_their_estimates():
    prediction, targets = random_prediction(4, 5)
    logits, iou = prediction.logits.requires_grad_(), prediction.iou.requires_grad_()
    loss = SamLoss()
    loss.total(loss(MaskPrediction(logits, iou), Targets(targets))).backward()
    cost = torch.zeros(4, 3)
    for i, m in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        one = MaskPrediction(logits[i : i + 1, m : m + 1], iou[i : i + 1, m : m + 1])
        terms = loss(one, Targets(targets[i : i + 1]))
        cost[i, m] = (loss.mask * terms.mask + loss.dice * terms.dice).detach()
    learns = logits.grad.flatten(2).abs().sum(dim=2) > 0
    assert torch.equal(learns.nonzero()[:, 1], cost.argmin(dim=1))
    assert (iou.grad != 0).all()


def test_without_focus_the_mask_loss_is_cross_entropy():
    logits = torch.randn(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    truth = (torch.arange(3 * 2 * 64) % 3 == 0).view(3, 2, 8, 8).double()
    plain = sigmoid_focal_loss(logits, truth, alpha=-1, gamma=0)
    ours = SamLoss(focal_alpha=-1, focal_gamma=0)._focal(logits, truth)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)
    weights = torch.linspace(0, 1, plain.numel(), dtype=torch.float64).view_as(plain)
    gradients = [torch.autograd.grad((value * weights).sum(), logits)[0] for value in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_dice_is_monais():
    from monai.losses.dice import DiceLoss

    prediction, targets = random_prediction(4, 3)
    targets[0], targets[1] = False, True
    theirs = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")
    ours = [
        SamLoss()(MaskPrediction(prediction.logits[i : i + 1, :1], prediction.iou[i : i + 1, :1]), Targets(mask[None]))
        for i, mask in enumerate(targets)
    ]
    expected = theirs(prediction.logits[:, :1], targets[:, None].double()).flatten()
    torch.testing.assert_close(torch.stack([terms.dice for terms in ours]), expected, rtol=1e-12, atol=1e-14)


def random_case_with_ignored(seed: int):
    """Predictions and masks of 64 pixels a side, and a region that is ignored: no object is there."""
    generator = torch.Generator().manual_seed(seed)
    prediction, _ = random_prediction(3, seed)
    ignore = torch.rand(1, 64, 64, generator=generator) > 0.7
    return prediction, (torch.rand(3, 64, 64, generator=generator) > 0.6) & ~ignore, ignore


@pytest.mark.parametrize("seed", range(3))
def test_what_a_model_says_of_ignored_pixels_changes_no_term(seed):
    _, masks, ignore = random_case_with_ignored(seed)
    logits = torch.randn(3, 2, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    results = []
    for there in (-9.0, 9.0):
        changed = torch.where(ignore[:, None], there, logits).requires_grad_()
        loss = SamLoss(resolution=64)
        terms = loss(MaskPrediction(changed, torch.full((3, 2), 0.5)), loss.targets(batch_of(masks, ignore)))
        (gradient,) = torch.autograd.grad(loss.total(terms), changed)
        assert not gradient[ignore[:, None].expand_as(gradient)].any()
        results.append((*terms, gradient))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


def test_an_ignored_half_costs_what_the_other_half_costs_alone():
    logits = torch.randn(3, 2, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) > 0.6
    ignore = (torch.arange(64) >= 32).expand(1, 64, 64)
    iou = torch.full((3, 2), 0.5, dtype=torch.float64)
    loss = SamLoss(resolution=64)
    whole = loss(MaskPrediction(logits, iou), loss.targets(batch_of(masks & ~ignore, ignore)))
    half = loss(MaskPrediction(logits[..., :32], iou), Targets(masks[..., :32]))
    torch.testing.assert_close(whole, half, rtol=1e-12, atol=1e-14)


def test_a_cell_that_is_half_object_and_half_ignored_counts_as_object():
    masks, ignore = torch.zeros(2, 64, 64, dtype=torch.bool), torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 8:16, 8:10], ignore[0, 8:16, 10:12] = True, True
    counted = SamLoss(resolution=1).targets(batch_of(masks, ignore)).counted
    assert counted[0].all()
    assert (~counted[1]).nonzero().tolist() == [[2, 2], [3, 2]]


def test_nothing_ignored_is_nothing_changed():
    prediction, masks, _ = random_case_with_ignored(0)
    loss, nothing = SamLoss(), torch.zeros(1, 64, 64, dtype=torch.bool)
    terms = [loss(prediction, loss.targets(batch_of(masks, ignore))) for ignore in (None, nothing)]
    torch.testing.assert_close(*terms, rtol=1e-12, atol=1e-14)
