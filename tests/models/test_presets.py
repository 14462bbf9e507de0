"""Laws that hold for every image model."""

import json
from functools import cache

import pytest
import torch
from torch.testing import assert_close

from sam_train.models import PRESETS, build_model
from sam_train.models.sam2.sam2 import Sam2
from sam_train.structures import ImageFeatures, MaskPrediction, PointLabel, Prompts
from sam_train.tuning.surgery import Tuning
from tests.models.zoo import alone, choose, images, light_config, light_model, mixed_prompts
from tests.parity.reference import ROOT, needs_reference

OBJECT_IMAGE = torch.tensor([0, 0, 1, 1, 1, 2])
EXACT = {"atol": 1e-10, "rtol": 1e-10}  # rounding errors of double precision

HIERA_FOLDERS = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}


def reference_folder(preset: str) -> str:
    """The folder of a preset's fixtures: ``sam2_hiera_tiny`` is in ``sam2_hiera_t``."""
    family, _, size = preset.partition("_hiera_")
    return f"{family}_hiera_{HIERA_FOLDERS[size]}" if size else preset


REFERENCES = [preset for preset in PRESETS if (ROOT / reference_folder(preset)).is_dir()]


@pytest.fixture(scope="module", params=PRESETS)
def preset(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(preset):
    """The preset with few blocks and an input of 64 pixels."""
    return light_model(preset)


@pytest.fixture(scope="module")
def features(model) -> ImageFeatures:
    with torch.no_grad():
        return model.encode_image(images(3))


@cache
def on_meta(preset: str, image_size: int | None = None):
    """The whole preset on the meta device."""
    with torch.device("meta"):
        return build_model(preset, image_size)


class TestPreset:
    @pytest.mark.parametrize("image_size", [256, 1024])
    def test_shapes(self, preset, image_size):
        channels, side = PRESETS[preset].dim, image_size // 16
        with torch.device("meta"):
            model = light_config(preset, image_size).build()
            features = model.encode_image(torch.zeros(2, 3, image_size, image_size))
            prompts = Prompts(torch.zeros(5, 3, 2), torch.zeros(5, 3, dtype=torch.long))
            prediction = model.decode(features, prompts, torch.zeros(5, dtype=torch.long), multimask=True)
        assert features.embedding.shape == (2, channels, side, side)
        if preset.startswith("sam2"):
            finest, finer = features.high_res
            assert finest.shape == (2, channels // 8, 4 * side, 4 * side)
            assert finer.shape == (2, channels // 4, 2 * side, 2 * side)
            assert prediction.object_score.shape == (5,)
        else:
            assert features.high_res == ()
            assert prediction.object_score is None
        assert prediction.logits.shape == (5, 3, 4 * side, 4 * side)
        assert prediction.iou.shape == (5, 3)
        assert prediction.mask_tokens.shape == (5, 3, channels)

    def test_weights_fit_every_input_size(self, preset):
        shapes = [
            {name: tensor.shape for name, tensor in on_meta(preset, size).state_dict().items()} for size in (None, 512)
        ]
        assert shapes[0] == shapes[1]

    def test_preprocessing_belongs_to_the_model_family(self, preset):
        preprocessing = on_meta(preset, 512).preprocessing
        assert preprocessing.image_size == 512
        assert preprocessing.resize == ("square" if preset.startswith("sam2") else "longest_side")

    def test_objects_of_a_batch_do_not_influence_each_other(self, model, features):
        """Every object has the same masks alone on its image, without empty slots, as together with all others."""
        prompts = mixed_prompts()
        together = decode(model, features, prompts, OBJECT_IMAGE)
        for index, image in enumerate(OBJECT_IMAGE.tolist()):
            own = ImageFeatures(features.embedding[image][None], tuple(map_[image][None] for map_ in features.high_res))
            by_itself = decode(model, own, alone(prompts, index), torch.zeros(1, dtype=torch.long))
            assert_equal(by_itself, rows(together, [index]))

    def test_permuting_objects_permutes_the_predictions(self, model, features):
        order = [3, 0, 5, 1, 4, 2, 2]
        prompts = mixed_prompts()
        together = decode(model, features, prompts, OBJECT_IMAGE)
        assert_equal(decode(model, features, choose(prompts, order), OBJECT_IMAGE[order]), rows(together, order))

    def test_empty_point_slots_change_nothing_at_any_position(self, model, features):
        prompts = mixed_prompts()
        empty = Prompts(torch.full((6, 2, 2), 9.0).double(), torch.full((6, 2), PointLabel.EMPTY))
        before = Prompts(empty.points, empty.labels, prompts.masks, prompts.has_mask)
        padded = before.with_points(prompts.points, prompts.labels).with_points(empty.points, empty.labels)
        expected = decode(model, features, prompts, OBJECT_IMAGE)
        assert_equal(decode(model, features, padded, OBJECT_IMAGE), expected)

    def test_images_of_a_batch_do_not_influence_each_other(self, model, features):
        with torch.no_grad():
            second = model.encode_image(images(3)[1:2])
        assert_close(second.embedding, features.embedding[1:2], **EXACT)
        for map_, maps in zip(second.high_res, features.high_res, strict=True):
            assert_close(map_, maps[1:2], **EXACT)

    def test_zero_objects_give_zero_masks(self, model, features):
        nothing = choose(mixed_prompts(), [])
        assert decode(model, features, nothing, OBJECT_IMAGE[:0]).logits.shape == (0, 3, 16, 16)

    def test_multimask_may_be_given_per_object(self, model, features):
        ambiguous = torch.tensor([True, False, False, True, False, True])
        prompts = mixed_prompts()
        both = decode(model, features, prompts, OBJECT_IMAGE, ambiguous)
        three, one = (decode(model, features, prompts, OBJECT_IMAGE, many) for many in (True, False))
        assert (three.logits.shape[1], one.logits.shape[1]) == (3, 1)
        assert_equal(rows(both, ambiguous), rows(three, ambiguous))
        for candidate in range(3):
            assert torch.equal(both.logits[~ambiguous, candidate], one.logits[~ambiguous, 0])
            assert torch.equal(both.iou[~ambiguous, candidate], one.iou[~ambiguous, 0])
            assert torch.equal(both.mask_tokens[~ambiguous, candidate], one.mask_tokens[~ambiguous, 0])

    def test_the_gradient_reaches_every_parameter_of_the_image_model(self, model):
        features = model.encode_image(images(3))
        outputs = []
        for multimask in (True, False):
            prediction = model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask)
            outputs += [prediction.logits, prediction.iou]
        if prediction.object_score is not None:
            outputs.append(prediction.object_score)
        generator = torch.Generator().manual_seed(3)
        loss = sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs)
        model.zero_grad()
        loss.backward()
        unused = dict(model.unused_shapes)
        for name, parameter in model.named_parameters():
            if name in unused:
                assert parameter.grad is None, name
                continue
            if name.endswith("k_proj.bias"):
                continue  # it adds the same number to all scores, which softmax ignores
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 1e-12, name

    def test_unused_weights_are_kept_and_never_train_with_images(self, preset):
        model = light_model(preset)
        unused = {name for name, _ in model.unused_shapes}
        assert unused <= model.state_dict().keys()
        Tuning("full").apply(model)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == dict(model.named_parameters()).keys() - unused
        has_memory = isinstance(model, Sam2) and model.config.version is not None
        assert any("memory" in name for name in unused) == has_memory
        assert ("image_encoder.head.weight" in unused) == (preset == "mobile_sam")

    def test_bfloat16_autocast_stays_close_to_double_precision(self, model, features):
        expected = decode(model, features, mixed_prompts(), OBJECT_IMAGE)
        model.float()
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            again = decode(model, model.encode_image(images(3).float()), mixed_prompts(torch.float), OBJECT_IMAGE)
        model.double()
        for got, want in ((again.logits, expected.logits), (again.iou, expected.iou)):
            assert got.isfinite().all()
            assert (got.double() - want).norm() < 0.1 * want.norm()


@pytest.mark.parametrize("preset", ["sam_nano", "sam2_nano"])
def test_nano_models_have_at_most_six_million_weights_for_images_and_half_as_many_for_videos(preset):
    model = on_meta(preset)
    memory = dict(model.unused_shapes)
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    assert sum(size for name, size in sizes.items() if name not in memory) < 6e6
    assert sum(size for name, size in sizes.items() if name in memory) < 3.5e6
    assert bool(memory) == (preset == "sam2_nano")


@needs_reference
@pytest.mark.parametrize("preset", REFERENCES)
def test_names_and_shapes_are_those_of_the_official_checkpoints(preset):
    keys = json.loads((ROOT / reference_folder(preset) / "keys.json").read_text())
    own = {name: tuple(tensor.shape) for name, tensor in on_meta(preset).state_dict().items()}
    assert own == {name: tuple(shape) for name, shape, _ in keys}


@torch.no_grad()
def decode(model, features, prompts, object_image, multimask=True) -> MaskPrediction:
    return model.decode(features, prompts, object_image, multimask)


def rows(prediction: MaskPrediction, objects) -> MaskPrediction:
    return prediction._map(lambda tensor: tensor[objects])


def assert_equal(one: MaskPrediction, other: MaskPrediction) -> None:
    for name in ("logits", "iou", "object_score", "mask_tokens"):
        assert_close(getattr(one, name), getattr(other, name), **EXACT, msg=lambda text, name=name: f"{name}: {text}")
