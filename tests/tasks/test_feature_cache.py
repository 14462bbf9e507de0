"""Training from the cache is training without it, and the encoder rests."""

from typing import NamedTuple

import pytest
import torch

from sam_train.errors import InputError
from sam_train.models import build_model
from sam_train.tasks import feature_cache
from sam_train.tasks.feature_cache import FeatureCache, encoder_key
from tests.tasks.runs import AUGMENTATION, SIZE, Losses, make_data, make_task, make_trainer, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


def run(folder, *caches, mode="frozen", augmentation=None, last_blocks=None, **options):
    """Weights and losses of a few steps, the validation score, and how many batches the encoder saw and began with."""
    task, data, losses = make_task(mode, last_blocks=last_blocks), make_data(2, augmentation), Losses()
    seen, begun = [], []
    task.model.image_encoder.register_forward_hook(lambda *_: seen.append(1))
    task.model.image_encoder.steps[0].register_forward_hook(lambda *_: begun.append(1))
    trainer = make_trainer(folder, max_steps=6, val_check_interval=3, callbacks=[losses, *caches], **options)
    trainer.fit(task, data)
    return Run(weights(task), losses.values, trainer.callback_metrics["val/iou"].item(), len(seen), len(begun))


class Run(NamedTuple):
    weights: dict[str, torch.Tensor]
    losses: list[float]
    score: float
    num_encoded: int
    num_begun: int


def furthest(first, second):
    return max((first[name].float() - second[name].float()).abs().max().item() for name in first)


def test_training_from_a_cache_of_float32_equals_training_without(tmp_path):
    plain = run(tmp_path / "plain")
    cached = run(tmp_path / "cached", FeatureCache(str(tmp_path / "cache"), dtype="float32"))
    assert furthest(plain.weights, cached.weights) <= 1e-6
    assert furthest(plain.weights, weights(make_task("frozen"))) > 1e-4
    assert cached.losses == pytest.approx(plain.losses, rel=1e-6)
    assert cached.score == pytest.approx(plain.score, rel=1e-6)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_last_blocks_train_from_a_cache_of_what_is_before_them(tmp_path, mode):
    plain = run(tmp_path / "plain", mode=mode, last_blocks=3)
    cached = run(tmp_path / "cached", FeatureCache(str(tmp_path / "cache"), dtype="float32"), mode=mode, last_blocks=3)
    assert furthest(plain.weights, cached.weights) <= 1e-6
    assert furthest(plain.weights, weights(make_task(mode, last_blocks=3))) > 1e-4
    assert cached.losses == pytest.approx(plain.losses, rel=1e-6)
    assert cached.score == pytest.approx(plain.score, rel=1e-6)
    assert (plain.num_begun, cached.num_begun) == (6 + 2 * 5, 3 + 3 + 1)
    again = run(tmp_path / "again", FeatureCache(str(tmp_path / "cache"), dtype="float32"), mode=mode, last_blocks=3)
    assert again.num_begun == 0
    assert furthest(again.weights, cached.weights) == 0


def test_training_from_a_cache_of_bfloat16_equals_training_without_to_its_precision(tmp_path):
    plain = run(tmp_path / "plain")
    cached = run(tmp_path / "cached", FeatureCache(str(tmp_path / "cache")))
    assert cached.losses == pytest.approx(plain.losses, rel=2**-8)
    assert cached.score == pytest.approx(plain.score, abs=2**-8)  # pixels whose logit is about 0 fall either way


# In bf16 the decoder's sums differ: cached features come in float32. Steps that follow part from there.
@pytest.mark.parametrize(("precision", "first", "later"), [("bf16-mixed", 2**-8, 2**-6), ("64-true", 1e-6, 1e-6)])
def test_the_cache_is_computed_in_the_precision_of_the_run(tmp_path, precision, first, later):
    plain = run(tmp_path / "plain", precision=precision)
    cached = run(tmp_path / "cached", FeatureCache(str(tmp_path / "cache"), dtype="float32"), precision=precision)
    assert cached.losses[0] == pytest.approx(plain.losses[0], rel=first)
    assert cached.losses == pytest.approx(plain.losses, rel=later)


def test_the_encoder_rests_once_the_cache_is_full(tmp_path):
    first = run(tmp_path / "first", FeatureCache(str(tmp_path / "cache")))
    assert first.num_encoded == 3 + 3 + 1  # 6 images of training and 6 of validation in twos; and the shapes
    second = run(tmp_path / "second", FeatureCache(str(tmp_path / "cache")))
    assert second.num_encoded == 0
    assert furthest(first.weights, second.weights) == 0


def test_entries_of_an_earlier_format_are_computed_anew(tmp_path, monkeypatch):
    """Format 2 had SAM 2's no-memory embedding in its features."""
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "_FORMAT", 2)
        run(tmp_path / "first", FeatureCache(str(tmp_path / "cache")))
    again = run(tmp_path / "second", FeatureCache(str(tmp_path / "cache")))
    assert again.num_encoded == 3 + 3 + 1
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_augmented_views_come_round_again(tmp_path):
    cache = FeatureCache(str(tmp_path / "cache"), views=2)
    assert run(tmp_path / "run", cache, augmentation=AUGMENTATION).num_encoded == 6 + 3 + 1
    assert len(list(tmp_path.glob("cache/*/*/*.safetensors"))) == 6 * 2


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_an_encoder_that_trains_is_refused(tmp_path, mode):
    with pytest.raises(InputError, match="tuning=frozen"):
        run(tmp_path / "run", FeatureCache(str(tmp_path / "cache")), mode=mode)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("preset", ["sam_nano", "mobile_sam", "sam2.1_hiera_tiny"])
def test_the_key_changes_with_all_that_features_come_from(preset):
    torch.manual_seed(0)
    model = build_model(preset, SIZE).requires_grad_(False)
    keys = [
        encoder_key(model, "32-true"),
        encoder_key(model, "bf16-mixed"),
        encoder_key(build_model(preset, 128).requires_grad_(False), "32-true"),
    ]
    for tensor in [*model.encoding_parameters(), *model.image_encoder.buffers()][::40]:
        tensor.data.view(-1)[0] += 1
        keys.append(encoder_key(model, "32-true"))
    assert len(set(keys)) == len(keys)


def test_the_key_is_of_what_is_before_the_blocks_that_train():
    model = make_task("full", last_blocks=3).model
    steps = model.image_encoder.steps
    keys = [encoder_key(model, "32-true")]
    for tensor in [*steps[-3].parameters(), *model.image_encoder.neck.parameters(), *model.mask_decoder.parameters()]:
        tensor.data.view(-1)[0] += 1
    assert encoder_key(model, "32-true") == keys[0]
    for tensor in [model.image_encoder.pos_embed, *steps[0].parameters(), *steps[-4].parameters()]:
        tensor.data.view(-1)[0] += 1
        keys.append(encoder_key(model, "32-true"))
    keys += [encoder_key(make_task("full", last_blocks=last).model, "32-true") for last in (2, 4)]
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_change_with_what_trains():
    model = make_task("frozen").model
    key = encoder_key(model, "32-true")
    with torch.no_grad():
        model.mask_decoder.iou_token.weight += 1
    assert encoder_key(model.train(), "32-true") == key
