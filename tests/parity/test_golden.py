"""Every preset computes what the official code computes, from an official checkpoint to full-size masks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from sam_train.checkpoints import load_checkpoint
from sam_train.models import PRESETS, ImageModel, build_model
from sam_train.models.sam2.sam2 import Sam2
from sam_train.structures import ImageFeatures, MaskPrediction, PointLabel, Prompts
from tests.parity.preprocess import preprocess_image
from tests.parity.reference import ROOT, Reference, formula, needs_reference, python_slice

pytestmark = needs_reference

SAM2_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
FOLDERS = {
    **{name: name for name in ("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam")},
    **{f"{v}_hiera_{size}": f"{v}_hiera_{short}" for v in ("sam2", "sam2.1") for size, short in SAM2_SIZES.items()},
}
# Encoding an image takes seconds: other presets and images are marked slow.
QUICK = {"sam_vit_b": {"main", "large", "tensor", "eps_probe"}, "mobile_sam": {"main"}, "sam2.1_hiera_tiny": {"main"}}


def everything() -> list:
    """(preset, kind, name) of all stored outputs, in an order in which each image is encoded once."""
    found = []
    for preset, folder in FOLDERS.items():
        recipe = ROOT / folder / "golden.json"
        if not recipe.is_file():
            continue
        content = json.loads(recipe.read_text())
        items = [(kind, name, name) for kind in ("preprocess", "features") for name in content[kind]]
        for case in content["cases"]:
            kinds = ["prediction", "tokens"] if "tokens" in case["outputs"] else ["prediction"]
            items += [(kind, case["name"], case.get("weights", case["image"])) for kind in kinds]
        items.sort(key=lambda item: item[2] == "eps_probe")  # which needs other weights
        for kind, name, image in items:
            marks = [] if image in QUICK.get(preset, ()) else [pytest.mark.slow]
            found.append(pytest.param(preset, kind, name, marks=marks))
    return found


@dataclass
class Golden:
    """A preset with the weights of the reference, and a cache of the features of its images."""

    reference: Reference
    model: ImageModel
    file: Path
    weights: str | None = "none yet"
    encoded: dict[tuple[str, str | None], ImageFeatures] = field(default_factory=dict)

    def load(self, weights: str | None) -> None:
        """Load the recipe's weights, or its ``eps_probe``, from a file as the official code writes it."""
        if weights == self.weights:
            return
        recipe = self.reference.golden
        state = self.reference.state_dict(recipe[weights]["overrides"] if weights else None)
        formula().save_checkpoint(state, self.file, recipe["family"])
        load_checkpoint(self.model, self.file)
        self.file.unlink()
        self.weights = weights

    def preprocess(self, image: str) -> torch.Tensor:
        pixels = self.reference.image(image)
        return pixels if pixels.is_floating_point() else preprocess_image(pixels, self.model.preprocessing)

    def features(self, image: str, weights: str | None) -> ImageFeatures:
        self.load(weights)
        if (image, weights) not in self.encoded:
            self.encoded[image, weights] = self.model.encode_image(self.preprocess(image))
        return self.encoded[image, weights]

    def tolerance(self, quantity: str, weights: str | None) -> float:
        return self.reference.tolerance(f"{weights} {quantity}" if weights else quantity)


@pytest.fixture(scope="module")
def golden_of(tmp_path_factory):
    """Builds presets, and keeps one at a time: all together would not fit into memory."""

    @lru_cache(maxsize=1)
    def build(preset: str) -> Golden:
        file = tmp_path_factory.mktemp("golden") / "weights.pth"
        return Golden(Reference(FOLDERS[preset]), build_model(preset).eval(), file)

    return build


@torch.no_grad()
@pytest.mark.parametrize(("preset", "kind", "name"), everything())
def test_outputs_equal_the_official_ones(golden_of, preset, kind, name):
    checks = {
        "preprocess": check_preprocessing,
        "features": check_features,
        "prediction": check_prediction,
        "tokens": check_tokens,
    }
    checks[kind](golden_of(preset), name)


def check(actual: torch.Tensor, stored: Mapping, golden: Golden, tolerance: float) -> None:
    """Compare with a stored tensor or, where it is too large, with a part of it and statistics of the whole."""
    assert list(actual.shape) == stored["shape"]
    if stored.get("tensor"):
        index = stored.get("index", "[:]").strip("[]").split(", ")
        part = actual[tuple(python_slice(item) if ":" in item else int(item) for item in index)]
        assert_close(part, golden.reference.tensors[stored["tensor"]], atol=tolerance, rtol=0)
    if "mean" in stored:
        whole = {"mean": actual.mean(), "std": actual.std(correction=0), "absmax": actual.abs().max()}
        assert_close({k: v.item() for k, v in whole.items()}, {k: stored[k] for k in whole}, atol=tolerance, rtol=0)
    if "sample" in stored:
        flat = actual.flatten()
        sample = flat[[(len(flat) - 1) * k // 15 for k in range(16)]]
        assert_close(sample, torch.tensor(stored["sample"]), atol=tolerance, rtol=0)


@pytest.mark.parametrize("preset", FOLDERS)
def test_parameters_have_the_official_names_and_shapes(preset):
    with torch.device("meta"):
        state = build_model(preset).state_dict()
    keys = json.loads((ROOT / FOLDERS[preset] / "keys.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in state.items()} == {name: shape for name, shape, _ in keys}


def check_preprocessing(golden: Golden, image: str) -> None:
    check(golden.preprocess(image), golden.reference.golden["preprocess"][image], golden, 1e-6)


def check_features(golden: Golden, name: str) -> None:
    probe = name == "eps_probe"  # other weights on the image named tensor
    features = still(golden.model, golden.features("tensor" if probe else name, name if probe else None))
    levels = {"embedding": features.embedding, **{f"high_res_{i}": f for i, f in enumerate(features.high_res)}}
    stored = golden.reference.golden["features"][name]
    assert levels.keys() == stored.keys()
    for level, expected in stored.items():
        tolerance = golden.reference.tolerance("eps_probe features" if probe else level)
        check(levels[level], expected, golden, tolerance)


def still(model: ImageModel, features: ImageFeatures) -> ImageFeatures:
    """The features that the official image predictors keep: SAM 2's with the no-memory embedding."""
    return model.without_memory(features) if isinstance(model, Sam2) else features


def prompts_of(golden: Golden, case: Mapping) -> Prompts:
    """A recipe's prompts in the order in which the official code concatenates them."""
    clicks = torch.tensor(case["point_coords"] or []).view(1, -1, 2)
    corners = torch.tensor(case["box"] or []).view(-1, 2, 2)
    parts = [(clicks, torch.tensor(case["point_labels"] or [], dtype=torch.long)[None])]
    if len(corners):
        parts.append((corners, torch.tensor([PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT])[None]))
    if isinstance(golden.model, Sam2):
        parts.reverse()
    num_objects = max(len(corners), 1)
    original_size = golden.reference.original_size(case["image"])
    points = torch.cat([points.expand(num_objects, -1, -1) for points, _ in parts], dim=1)
    masks = golden.reference.tensors[case["mask_input"]].unflatten(0, (1, -1)) if case["mask_input"] else None
    return Prompts(
        points=golden.model.preprocessing.scale_points(points, original_size),
        labels=torch.cat([labels.expand(num_objects, -1) for _, labels in parts], dim=1),
        masks=masks,
    )


def predict(model: ImageModel, features: ImageFeatures, prompts: Prompts, multimask: bool) -> MaskPrediction:
    """Predict as the official predictors do; that of SAM 2 replaces unstable masks."""
    object_image = torch.zeros(len(prompts.points), dtype=torch.long)
    if isinstance(model, Sam2):
        return model.decode(features, prompts, object_image, multimask, dynamic_multimask=True)
    return model.decode(features, prompts, object_image, multimask)


def check_prediction(golden: Golden, name: str) -> None:
    """Compare with what the official predict() returned, and with the masks of that."""
    case = golden.reference.cases[name]
    weights, stored, tensors = case.get("weights"), case["outputs"], golden.reference.tensors
    features = golden.features(case["image"], weights)
    prediction = predict(golden.model, features, prompts_of(golden, case), case["multimask_output"])
    logits = prediction.logits.flatten(0, 1)
    returned = logits.clamp(-32, 32) if isinstance(golden.model, Sam2) else logits
    low_res, (rows, columns) = golden.reference.low_res(case)
    assert_close(returned[:, rows, columns], low_res, atol=golden.tolerance("low_res", weights), rtol=0)
    iou = torch.tensor(stored["iou"]["values"])
    assert_close(prediction.iou.flatten(), iou, atol=golden.tolerance("iou", weights), rtol=0)
    if "object_score_logits" in stored:
        score, tolerance = (
            tensors[stored["object_score_logits"]["tensor"]],
            golden.tolerance("object_score_logits", weights),
        )
        assert_close(prediction.object_score, score.flatten(), atol=tolerance, rtol=0)
    check_masks(golden, case, prediction.logits)


def check_masks(golden: Golden, case: Mapping, logits: torch.Tensor) -> None:
    """Compare masks at the original size: no pixel differs except those that rounding may flip."""
    stored, size = case["outputs"], golden.reference.original_size(case["image"])
    full = golden.model.preprocessing.restore_logits(logits, size).flatten(0, 1)
    if "logits" in stored:
        rows, columns = python_slice(stored["logits"]["rows"]), python_slice(stored["logits"]["columns"])
        expected = golden.reference.tensors[stored["logits"]["tensor"]]
        assert_close(full[:, rows, columns], expected, atol=golden.tolerance("logits", case.get("weights")), rtol=0)
    areas = (full > 0).sum(dim=(1, 2)).tolist()
    for area, expected, may_flip in zip(areas, stored["mask_area"], stored["near_threshold_px"], strict=True):
        assert abs(area - expected) <= may_flip
    if "masks" in stored:
        flipped = (full > 0) != torch.from_numpy(golden.reference.masks(case))
        assert not (flipped & (full.abs() > 1e-3)).any()  # near_threshold_px counts what is nearer to zero


def check_tokens(golden: Golden, name: str) -> None:
    """Compare embedded prompts, and the masks of all four tokens before any selection."""
    case = golden.reference.cases[name]
    weights, stored = case.get("weights"), case["outputs"]
    golden.load(weights)
    model = golden.model
    _, encoder, decoder = model.parts
    prompts = encoder(prompts_of(golden, case))
    sparse, tolerance = prompts.tokens[prompts.attend][None], golden.tolerance("sparse", weights)
    check(sparse, stored["sparse_prompt_embeddings"], golden, tolerance)
    shape = stored["dense_prompt_embeddings"]["shape"]
    check(prompts.dense.expand(shape), stored["dense_prompt_embeddings"], golden, tolerance)
    features = golden.features(case["image"], weights)
    tokens = decoder.predict_tokens(still(model, features), encoder.dense_position(), prompts, torch.tensor([0]))
    expected = stored["tokens"]
    part = tokens.logits[..., python_slice(expected["rows"]), python_slice(expected["columns"])]
    tolerance = golden.tolerance("tokens", weights)
    assert_close(part, golden.reference.tensors[expected["tensor"]], atol=tolerance, rtol=0)
    assert_close(tokens.iou, torch.tensor(expected["iou"]), atol=golden.tolerance("iou", weights), rtol=0)


def test_every_released_preset_has_fixtures():
    assert set(FOLDERS) == {name for name in PRESETS if not name.endswith("_nano") and not name.startswith("slimsam")}
