"""What following objects promises, whatever the weights."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from sam_train.models.position_encoding import axial_rotation, rotate, sine_encoding, sine_grid
from sam_train.models.sam2 import memory, memory_attention
from sam_train.models.sam2.clip import ClipSchedule, track_clip
from sam_train.models.sam2.memory_bank import INFERENCE, TRAINING, Course, MemoryBank
from sam_train.models.sam2.tracking import empty_where_absent
from sam_train.structures import MaskPrediction, Prompts
from tests.models.clips import DIM, clicks, clip_features, follow, square_masks, tracking_model
from tests.models.zoo import IMAGE_SIZE

EXACT = {"atol": 1e-9, "rtol": 1e-9}  # of double precision: rounding, and nothing else
CLIP = torch.tensor([0, 0])


@pytest.fixture(scope="module")
def model():
    return tracking_model()


@pytest.fixture(scope="module")
def frames(model):
    with torch.no_grad():
        return clip_features(model, 9)


def assert_equal(one: MaskPrediction, other: MaskPrediction) -> None:
    for name in ("logits", "iou", "object_score", "mask_tokens"):
        assert_close(getattr(one, name), getattr(other, name), **EXACT)


def rows(prediction: MaskPrediction, objects) -> MaskPrediction:
    return prediction._map(lambda tensor: tensor[objects])


def plain_recall(model, features, bank, frame, course, rules) -> torch.Tensor:
    """One object's embedding by the definition: everything is projected anew, pointers are not turned."""
    (look,) = bank.look_back(frame, course, rules)
    size = features.embedding.shape[-2:]
    cells = size[0] * size[1]
    place = sine_grid(size, 64, features.embedding).flatten(2)[0].T
    times = torch.tensor(look.distances).double() / (course.num_pointers - 1)
    pointers = torch.cat([memory.pointer.view(-1, 64) for memory in look.pointers])
    times = torch.zeros_like(times)[:, None] if not hasattr(model, "obj_ptr_tpos_proj") else model.obj_ptr_tpos_proj(
        sine_encoding(times, DIM)
    )  # fmt: skip
    values = torch.cat([*(memory.values.double() for memory in look.memories), pointers])
    positions = [place + model.maskmem_tpos_enc[age, 0] for age in look.ages]
    positions += [time.expand(DIM // 64, 64) for time in times]
    turn = axial_rotation(size, DIM, features.embedding)
    x = (features.embedding + 0.1 * sine_grid(size, DIM, features.embedding))[0].flatten(1).T
    for layer in model.memory_attention.layers:
        own, cross = layer.self_attn, layer.cross_attn_image
        y = layer.norm1(x)
        query, key = rotate(own.q_proj(y), turn), rotate(own.k_proj(y), turn)
        x = x + own.out_proj((query @ key.T / DIM**0.5).softmax(-1) @ own.v_proj(y))
        key = cross.k_proj(values + torch.cat(positions))
        turned = rotate(key[: len(look.memories) * cells].unflatten(0, (-1, cells)), turn).flatten(0, 1)
        key = torch.cat([turned, key[len(turned) :]])
        query = rotate(cross.q_proj(layer.norm2(x)), turn)
        x = x + cross.out_proj((query @ key.T / DIM**0.5).softmax(-1) @ cross.v_proj(values))
        x = x + layer.linear2(layer.linear1(layer.norm3(x)).relu())
    return model.memory_attention.norm(x).T.unflatten(1, size)


@torch.no_grad()
@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize("kept_cells", [0, 1 << 10], ids=["keys made again", "keys kept"])
def test_keys_and_values_that_are_not_projected_per_frame_give_the_same(version, kept_cells, monkeypatch):
    monkeypatch.setattr(memory, "KEPT_CELLS", kept_cells)
    model, course = tracking_model(version), Course(num_frames=9)
    frames = clip_features(model, 9)
    _, bank = follow(model, frames[:8], CLIP, clicks(2), course)
    assert (bank.objects[0].tracked[0].keys is None) == (kept_cells == 0)
    recalled = model.recall(frames[8], CLIP, bank, 8, course, INFERENCE)
    for index in range(2):
        plain = plain_recall(model, frames[8], bank.of([index]), 8, course, INFERENCE)
        assert plain.std() > 0.1
        assert_close(recalled[index], plain, **EXACT)


@pytest.mark.parametrize("part", [5, 1 << 20], ids=["in parts", "at once"])
@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["made again", "kept"])
def test_attention_in_parts_is_attention(part, kept, monkeypatch):
    monkeypatch.setattr(memory_attention, "SCORES_SIZE", 13 * part)
    monkeypatch.setattr(memory_attention, "KEPT_SCORES_SIZE", kept)
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 7, 16), (3, 13, 16), (3, 13, 4)
    inputs = [torch.randn(shape, generator=generator).double().requires_grad_() for shape in shapes]
    expected = F.scaled_dot_product_attention(*inputs)
    seen = memory_attention.attend(*inputs)
    assert_close(seen, expected, **EXACT)
    weights = torch.randn(seen.shape, generator=generator).double()
    gradients = [torch.autograd.grad((some * weights).sum(), inputs) for some in (seen, expected)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, **EXACT)
    assert memory_attention.attend(*(some[:0] for some in inputs)).shape == (0, 7, 4)


@torch.no_grad()
def test_an_object_does_not_notice_the_others_nor_a_clip_another_clip(model):
    frames, object_image = clip_features(model, 4, num_clips=2), torch.tensor([0, 0, 1])
    together, _ = follow(model, frames, object_image, clicks(3))
    for index, clip in enumerate(object_image.tolist()):
        own = [features.image(clip) for features in frames]
        alone, _ = follow(model, own, torch.tensor([0]), clicks(3).of(torch.tensor([index])))
        for one, all_ in zip(alone, together, strict=True):
            assert_equal(one, rows(all_, [index]))


@torch.no_grad()
def test_objects_that_came_at_different_times_are_followed_together(model, frames):
    """With other ages of memories, with fewer of them, and with a conditioning frame that lies ahead."""
    banks = [follow(model, frames[:3], CLIP[:1], clicks(1))[1]]
    for start, looks_back in ((2, False), (3, False)):
        _, bank = model.track(
            frames[start], clicks(1, seed=start), CLIP[:1], MemoryBank.empty(1), start, looks_back=looks_back
        )
        banks.append(bank)
    object_image = torch.zeros(3, dtype=torch.long)
    together, bank = model.track(frames[3], None, object_image, MemoryBank.cat(banks), 3)
    for index in range(3):
        alone, own = model.track(frames[3], None, CLIP[:1], banks[index], 3)
        assert_equal(alone, rows(together, [index]))
        assert_close(own.objects[0].tracked[-1].values, bank.objects[index].tracked[-1].values, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("reverse", [False, True])
def test_a_bank_that_forgets_gives_the_same_and_does_not_grow(model, reverse):
    frames, course = clip_features(model, 22), Course(reverse)
    everything, whole = follow(model, frames, CLIP, clicks(2), course)
    bounded, bank = follow(model, frames, CLIP, clicks(2), course, forgets=True)
    for one, other in zip(everything, bounded, strict=True):
        assert_equal(one, other)
    assert len(bank.objects[0].tracked) == 15
    assert sum(memory.values is not None for memory in bank.objects[0].tracked) == 6
    assert bank.num_bytes() < 0.4 * whole.num_bytes()


@torch.no_grad()
def test_backward_through_a_clip_is_forward_through_the_mirrored_clip(model, frames):
    forward, _ = follow(model, frames[::-1], CLIP, clicks(2))
    backward, _ = follow(model, frames, CLIP, clicks(2), Course(reverse=True))
    for one, other in zip(forward, backward, strict=True):
        assert_equal(one, other)


@torch.no_grad()
def test_tracking_changes_nothing_but_returns_another_bank(model, frames):
    _, bank = follow(model, frames[:3], CLIP, clicks(2))
    before = bank.to(torch.double, copy=True)
    first, more = model.track(frames[3], None, CLIP, bank, 3)
    again, _ = model.track(frames[3], None, CLIP, bank, 3)
    assert_equal(first, again)
    assert len(more.objects[0].tracked) == len(bank.objects[0].tracked) + 1
    for one, other in zip(bank.objects[0].tracked, before.objects[0].tracked, strict=True):
        assert torch.equal(one.values, other.values)


@torch.no_grad()
def test_a_correction_is_a_conditioning_frame_and_looks_back(model, frames):
    tracked, bank = follow(model, frames[:4], CLIP, clicks(2))
    said = replace(clicks(2, seed=5), masks=tracked[3].best().logits)
    corrected, after = model.track(frames[3], said, CLIP, bank, 3)
    assert [memory.frame for memory in after.objects[0].conditioning] == [0, 3]
    assert [memory.frame for memory in after.objects[0].tracked] == [1, 2]
    anew, _ = model.track(frames[3], said, CLIP, bank, 3, looks_back=False)
    fresh, _ = model.track(frames[3], said, CLIP, MemoryBank.empty(2), 3)
    assert_equal(anew, fresh)
    assert not torch.allclose(corrected.logits, anew.logits)


@torch.no_grad()
def test_at_most_one_point_gets_three_candidates(model, frames):
    def count(prompts: Prompts | None) -> int:
        prediction = model.segment(frames[0], None, prompts, CLIP, TRAINING)
        first = prediction.logits[:, :1].expand_as(prediction.logits)
        return 1 if torch.equal(prediction.logits, first) else prediction.logits.shape[1]

    boxes = torch.tensor([[5.0, 5.0, 30.0, 30.0]] * 2).double()
    assert [count(None), count(clicks(2)), count(clicks(2, num_points=2)), count(Prompts.from_boxes(boxes))] == [
        3,
        3,
        1,
        1,
    ]


@torch.no_grad()
def test_given_masks_are_the_prediction_and_an_empty_one_is_absent(model, frames):
    masks = square_masks(2)
    masks[1] = False
    prediction, bank = model.track(frames[0], None, CLIP, MemoryBank.empty(2), 0, masks=masks)
    shown = F.interpolate(prediction.logits, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear")[:, 0] > 0
    assert (shown != masks).float().mean() < 0.02
    assert prediction.object_score.tolist() == [10, -10]
    absent = bank.objects[1].conditioning[0]
    assert torch.equal(absent.pointer, model.no_obj_ptr[0])
    assert not torch.allclose(bank.objects[0].conditioning[0].pointer, absent.pointer)


@torch.no_grad()
def test_objects_that_are_not_there_are_empty_and_have_one_pointer(model, frames):
    prediction = model.segment(frames[0], None, clicks(2), CLIP)
    hidden = replace(prediction, object_score=torch.tensor([1.0, -1.0]).double())
    assert (empty_where_absent(hidden).logits[1] == -1024).all()
    assert torch.equal(empty_where_absent(hidden).logits[0], prediction.logits[0])
    bank = model.remember(frames[0], hidden, CLIP, MemoryBank.empty(2), 0, is_prompted=True, conditioning=True)
    seen = model.remember(frames[0], prediction, CLIP, MemoryBank.empty(2), 0, is_prompted=True, conditioning=True)
    assert torch.equal(bank.objects[1].conditioning[0].pointer, model.no_obj_ptr[0])
    assert torch.equal(bank.objects[0].conditioning[0].values, seen.objects[0].conditioning[0].values)


@torch.no_grad()
def test_memories_kept_in_bfloat16_are_rounded_and_nothing_else(model, frames):
    rules = replace(INFERENCE, memory_dtype=torch.bfloat16)
    exact, _ = follow(model, frames, CLIP, clicks(2))
    rounded, bank = follow(model, frames, CLIP, clicks(2), rules=rules)
    assert bank.objects[0].tracked[0].values.dtype == torch.bfloat16
    assert torch.equal(exact[0].logits, rounded[0].logits)
    error = (rounded[-1].logits - exact[-1].logits).norm() / exact[-1].logits.norm()
    assert 0 < error < 0.05


@torch.no_grad()
def test_bfloat16_autocast_stays_near(frames):
    model = tracking_model()
    expected, _ = follow(model, frames[:3], CLIP, clicks(2))
    model.float()
    single = [features.to(torch.float) for features in frames[:3]]
    with torch.autocast("cpu", torch.bfloat16):
        got, _ = follow(model, single, CLIP, Prompts(clicks(2).points.float(), clicks(2).labels))
    for one, other in zip(got, expected, strict=True):
        assert one.logits.isfinite().all()
        assert (one.logits.double() - other.logits).norm() < 0.15 * other.logits.norm()


class Person:
    """Says two clicks, or shows masks, and corrects with random points."""

    def __init__(self, shows_masks: bool) -> None:
        self.shows_masks = shows_masks

    def first(self, frame: int):
        return square_masks(2) if self.shows_masks else clicks(2, seed=frame)

    def correct(self, frame: int, prompts: Prompts | None, shown: MaskPrediction) -> Prompts:
        more = clicks(2, seed=10 + frame)
        return more if prompts is None else prompts.with_points(more.points, more.labels)


SCHEDULE = ClipSchedule(conditioning=(0,), corrected=(0, 2), num_corrections=2)


def loss_of(model, person, schedule=SCHEDULE, num_frames=4, **options) -> torch.Tensor:
    clip = track_clip(model, clip_features(model, num_frames), CLIP, person, schedule, **options)
    generator = torch.Generator().manual_seed(3)
    outputs = [
        output
        for rounds in clip.rounds.values()
        for prediction in rounds
        for output in (prediction.logits, prediction.iou, prediction.object_score)
    ]
    return sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs)


def test_the_gradient_reaches_every_parameter_through_the_memory():
    model = tracking_model()
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    for shift, shows_masks in ((1.0, True), (-2.0, False)):  # objects that are there, and some that are not
        bias.data.add_(shift)
        loss_of(model, Person(shows_masks)).backward()
    for name, tensor in (*model.memory_state(), ("no_mem_embed", model.no_mem_embed)):
        if name.endswith("self_attn.k_proj.bias") or name == "no_mem_pos_enc":
            continue  # the same number added to all scores, which softmax does not see; and what nothing uses
        assert tensor.grad is not None, name
        assert tensor.grad.abs().max() > 1e-12, name


@pytest.mark.parametrize("shows_masks", [True, False])
def test_making_activations_again_leaves_the_gradient_as_it_is(shows_masks):
    gradients = []
    for again in (False, True):
        model = tracking_model()
        loss_of(model, Person(shows_masks), checkpoint_activations=again).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert (gradient is None) == (gradients[1][name] is None), name
        if gradient is not None:
            assert_close(gradient, gradients[1][name], **EXACT)


@torch.no_grad()
def test_a_clip_is_tracked_step_by_step(model, frames):
    """Corrections see the logits of the round before and become conditioning frames; conditioning frames come first."""
    schedule = ClipSchedule(conditioning=(0, 2), corrected=(3,), num_corrections=2)
    clip = track_clip(model, frames[:5], CLIP, Person(False), schedule)
    assert [*clip.rounds] == [0, 2, 1, 3, 4]
    assert [len(rounds) for rounds in clip.rounds.values()] == [1, 1, 1, 3, 1]
    assert [memory.frame for memory in clip.bank.objects[0].conditioning] == [0, 2, 3]
    course, bank = Course(num_frames=5), MemoryBank.empty(2)
    for frame in (0, 2, 1):
        said = None if frame == 1 else clicks(2, seed=frame)
        looks_back = frame == 1
        prediction, bank = model.track(
            frames[frame], said, CLIP, bank, frame, looks_back=looks_back, course=course, rules=TRAINING
        )
        assert_equal(prediction, clip.rounds[frame][0])


@torch.no_grad()
def test_a_frame_of_a_clip_with_given_masks_is_not_predicted(model, frames):
    clip = track_clip(model, frames[:3], CLIP, Person(True), ClipSchedule(conditioning=(0,)))
    assert [*clip.given] == [0]
    assert [*clip.rounds] == [1, 2]
    assert torch.equal(clip.shown(0).logits, model.adopt(square_masks(2)).logits)
    assert clip.shown(1).logits.shape == (2, 1, IMAGE_SIZE // 4, IMAGE_SIZE // 4)


def test_a_model_without_memory_has_none():
    model = replace(tracking_model().config, version=None).build()
    assert not model.has_memory()
    assert not list(model.unused_shapes)


def test_a_memory_can_be_made_anew():
    """As for weights of an image model, whose memory is zero."""
    model = tracking_model()
    for _, tensor in model.memory_state():
        tensor.data.zero_()
    image_part = model.no_mem_embed.clone()
    assert not model.has_memory()
    model.initialize_memory()
    assert model.has_memory()
    assert (model.memory_attention.norm.weight == 1).all()
    assert model.maskmem_tpos_enc.dtype == torch.double
    assert torch.equal(model.no_mem_embed, image_part)
