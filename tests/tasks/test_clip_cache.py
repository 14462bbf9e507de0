"""Clips that train from the cache train as without it, and a frame is encoded once for images and clips."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from lightning import Callback

from sam_train.data.cache.embedding_cache import EmbeddingCache
from sam_train.data.cache.filling import fill
from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.clip_dataset import ClipChoice, TrainClips
from sam_train.data.loading.settings import Loading
from sam_train.data.world.film import ToyVideoSource
from sam_train.errors import InputError
from sam_train.inference.interaction import encode, encode_prefix
from sam_train.losses.sam_loss import SamLoss
from sam_train.models import build_model
from sam_train.runs.fit import default_callbacks, fit
from sam_train.runs.settings import Cache, Evaluation, ModelChoice, Settings
from sam_train.tasks.clip_training import ClipTraining
from sam_train.tuning.surgery import Tuning
from tests.tasks.runs import Losses

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]

SIZE = 64
AUGMENTATION = Augmentation()
SETTINGS = Settings(
    ToyVideoSource(3, 1, 0, num_frames=6, image_size=SIZE),
    model=ModelChoice(image_size=SIZE),
    tuning=Tuning("frozen", memory="full"),
    loss=SamLoss(),
    loader=Loading(batch_size=2, max_objects=2, min_area=4, num_workers=0),
    trainer={"accelerator": "cpu", "max_steps": 2, "val_check_interval": 2, "enable_progress_bar": False},
    evaluation=Evaluation(metrics=("j", "f", "j_and_f"), split="val"),
    task=ClipTraining(num_frames=3, corrections=1, max_val_clips=1, max_val_frames=3),
)


class Watched(Losses):
    """Also counts what the encoder sees and keeps the weights."""

    def setup(self, trainer, pl_module, stage):
        if not hasattr(self, "seen"):
            self.seen, self.begun = [], []
            pl_module.model.image_encoder.register_forward_hook(lambda _, args, __: self.seen.append(len(args[0])))
            pl_module.model.image_encoder.steps[0].register_forward_hook(lambda *_: self.begun.append(1))

    def on_fit_end(self, trainer, pl_module):
        self.weights = {name: value.detach().clone() for name, value in pl_module.model.state_dict().items()}
        self.score = trainer.callback_metrics["val/j_and_f"].item()


class Run(NamedTuple):
    weights: dict[str, torch.Tensor]
    losses: list[float]
    score: float
    seen: list[int]
    num_begun: int


def run(folder, cache=None, augmentation=None, **changes):
    loader = replace(SETTINGS.loader, augmentation=augmentation)
    settings = replace(SETTINGS, loader=loader, cache=cache, **changes)
    watched = Watched()
    callbacks: list[Callback] = [watched, *default_callbacks(folder, False, settings.task)]
    fit(settings, folder, callbacks)
    return Run(watched.weights, watched.values, watched.score, watched.seen, len(watched.begun))


def furthest(first, second):
    return max((first[name].float() - second[name].float()).abs().max().item() for name in first)


# The cache has one view of each clip, so it stands for training without augmentation.
@pytest.mark.parametrize("augmentation", [None, AUGMENTATION])
def test_clips_train_from_a_cache_of_float32_as_without(tmp_path, augmentation):
    plain = run(tmp_path / "plain")
    cached = run(tmp_path / "cached", Cache(str(tmp_path / "cache"), dtype="float32"), augmentation)
    assert furthest(plain.weights, cached.weights) <= 1e-6
    assert len(cached.losses) == 2
    assert cached.losses == pytest.approx(plain.losses, rel=1e-5)
    assert cached.score == pytest.approx(plain.score, abs=2e-3)  # cached frames have 8 bits, as in training


def test_each_frame_is_encoded_once_and_not_at_all_in_the_next_run(tmp_path):
    cache = Cache(str(tmp_path / "cache"))
    first = run(tmp_path / "first", cache)
    assert sum(first.seen) == 3 * 6 + 3 + 1  # all frames of training, three of validation, and the shapes
    assert max(first.seen) == 2 * 3  # as many at once as in a step
    second = run(tmp_path / "second", cache)
    assert second.seen == []
    assert furthest(first.weights, second.weights) == 0
    assert second.score == first.score


def test_the_last_blocks_train_on_clips_from_a_cache_of_what_is_before_them(tmp_path):
    tuning = Tuning("lora", rank=2, last_blocks=2, memory="full")
    plain = run(tmp_path / "plain", tuning=tuning)
    cached = run(tmp_path / "cached", Cache(str(tmp_path / "cache"), dtype="float32"), tuning=tuning)
    assert furthest(plain.weights, cached.weights) <= 1e-5
    assert cached.losses == pytest.approx(plain.losses, rel=1e-5)
    assert cached.num_begun < plain.num_begun


def test_an_encoder_that_trains_is_refused(tmp_path):
    with pytest.raises(InputError, match="tuning=frozen"):
        run(tmp_path / "run", Cache(str(tmp_path / "cache")), tuning=Tuning("lora", rank=2, memory="full"))


def test_augmented_clips_come_round_again_and_all_frames_of_one_are_changed_alike(tmp_path):
    clips = SETTINGS.data.splits()["train"].as_clips()
    assert clips is not None
    model = build_model("sam2_nano", SIZE).requires_grad_(False).eval()
    cache = EmbeddingCache(tmp_path, "encoder", "float32", views=2)

    def dataset(kept):
        return TrainClips(clips, model.preprocessing, ClipChoice(3), AUGMENTATION, 4, 0, kept)

    fill(cache, [dataset(cache).views], lambda batch: encode_prefix(model, batch), batch_size=4)
    assert len(list(tmp_path.glob("*/*/*.safetensors"))) == 3 * 6 * 2
    for epoch in range(4):
        kept = dataset(cache)[epoch, 0]
        assert kept.every_frame().images is None
        loaded = TrainClips(clips, model.preprocessing, ClipChoice(3), None, 4, 0)[epoch, 0]
        features = encode(model, kept.every_frame()).embedding
        if epoch % 2 == 0:  # the clip as it is
            expected = encode(model, loaded.every_frame()).embedding
            assert torch.allclose(features, expected, atol=1e-5)
            assert torch.equal(kept.frames[1].masks, loaded.frames[1].masks)
        else:
            assert not torch.allclose(features, encode(model, loaded.every_frame()).embedding, atol=1e-2)


def test_features_of_a_frame_serve_images_and_clips(tmp_path):
    cache = Cache(str(tmp_path / "cache"))
    images = {"task": None, "tuning": Tuning("frozen"), "evaluation": Evaluation(split="val")}
    fit(replace(SETTINGS, cache=cache, **images), tmp_path / "images")
    entries = set(tmp_path.glob("cache/*/*/*.safetensors"))
    assert len(entries) == (3 + 1) * 6  # all of these are annotated
    assert run(tmp_path / "clips", cache).seen == []
    assert set(tmp_path.glob("cache/*/*/*.safetensors")) == entries
