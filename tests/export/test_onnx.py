"""What is exported to ONNX finds in onnxruntime what the model finds here."""

import numpy as np
import onnxruntime
import pytest
import torch

from sam_train.errors import InputError
from sam_train.export.onnx import export_onnx
from sam_train.structures import ImageFeatures, PointLabel, Prompts
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, randomize

INPUTS = {
    "sam": ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"],
    "sam2": [
        *("image_embed", "high_res_feats_0", "high_res_feats_1"),
        *("point_coords", "point_labels", "mask_input", "has_mask_input"),
    ],
}


@pytest.fixture(scope="module", params=["sam", "sam2"])
def exported(request, tmp_path_factory):
    model = (CONFIG if request.param == "sam" else SAM2_CONFIG).build()
    randomize(model)
    folder = tmp_path_factory.mktemp(request.param)
    agreement = export_onnx(model.eval(), folder)
    assert agreement.iou > 0.999
    assert agreement.difference < 1e-3
    return request.param, model, folder


def session(folder, name):
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])


def as_numpy(values):
    return {name: value.numpy() for name, value in values.items()}


def test_names_and_their_order_are_what_other_tools_expect(exported):
    kind, _, folder = exported
    encoder, decoder = session(folder, "encoder"), session(folder, "decoder")
    assert [one.name for one in decoder.get_inputs()] == INPUTS[kind]
    found = [[one.name for one in part.get_outputs()] for part in (encoder, decoder)]
    assert [one.name for one in encoder.get_inputs()] == [{"sam": "input_image", "sam2": "image"}[kind]]
    assert (
        found
        == {
            "sam": [["image_embeddings"], ["masks", "iou_predictions", "low_res_masks"]],
            "sam2": [["high_res_feats_0", "high_res_feats_1", "image_embed"], ["masks", "iou_predictions"]],
        }[kind]
    )


def test_the_files_do_not_say_where_the_source_is_on_this_machine(exported):
    for file in exported[2].glob("*.onnx"):
        assert b"graphs.py" not in file.read_bytes()


@torch.no_grad()
def test_the_encoder_has_the_models_features(exported):
    kind, model, folder = exported
    generator = torch.Generator().manual_seed(0)
    if kind == "sam2":
        image = torch.randn(1, 3, 128, 128, generator=generator)
        features = model.without_memory(model.encode_image(image))
        expected = [*features.high_res, features.embedding]
    else:
        image = torch.randint(0, 256, (128, 90, 3), generator=generator).float()
        padded = torch.zeros(1, 3, 128, 128)
        padded[0, :, :, :90] = image.permute(2, 0, 1)
        expected = [model.encode_image(model.preprocessing.normalize(padded, torch.tensor([[128, 90]]))).embedding]
    (name,) = [one.name for one in session(folder, "encoder").get_inputs()]
    found = session(folder, "encoder").run(None, {name: image.numpy()})
    for ours, theirs in zip(expected, found, strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-3


def features_of(kind, generator):
    embedding = torch.randn(1, 32, 8, 8, generator=generator)
    if kind == "sam":
        return ImageFeatures(embedding), {"image_embeddings": embedding}
    finest = torch.randn(1, 4, 32, 32, generator=generator)
    finer = torch.randn(1, 8, 16, 16, generator=generator)
    named = {"image_embed": embedding, "high_res_feats_0": finest, "high_res_feats_1": finer}
    return ImageFeatures(embedding, (finest, finer)), named


@pytest.mark.parametrize(("num_objects", "num_points"), [(1, 1), (1, 2), (3, 2), (4, 9)])
@torch.no_grad()
def test_the_decoder_has_the_models_masks_for_any_number_of_objects_and_points(exported, num_objects, num_points):
    kind, model, folder = exported
    generator = torch.Generator().manual_seed(num_objects)
    features, named = features_of(kind, generator)
    points = torch.rand(num_objects, num_points, 2, generator=generator) * 128
    labels = torch.randint(-1, 4, (num_objects, num_points), generator=generator)
    labels[:, 0] = PointLabel.OBJECT
    count = 1 if kind == "sam" else num_objects
    mask, has_mask = torch.randn(count, 1, 32, 32, generator=generator), torch.zeros(count)
    given = {"point_coords": points, "point_labels": labels.float(), "mask_input": mask, "has_mask_input": has_mask}
    sizes = {"orig_im_size": torch.tensor([60.0, 100.0])} if kind == "sam" else {}
    found = session(folder, "decoder").run(None, as_numpy({**named, **given, **sizes}))
    if kind == "sam2":
        features = ImageFeatures(features.embedding - model.no_mem_embed.view(1, -1, 1, 1), features.high_res)
    on_image = torch.zeros(num_objects, dtype=torch.long)
    three = model.predict(features, Prompts(points, labels), on_image, multimask=True)
    if kind == "sam2":
        limit = model.logit_limit
        assert np.abs(three.logits.clamp(-limit, limit).numpy() - found[0]).max() < 2e-3
        assert np.abs(three.iou.numpy() - found[1]).max() < 1e-4
        return
    one = model.predict(features, Prompts(points, labels), on_image, multimask=False)
    best = three.best() if num_points < 3 else one
    masks, iou, low_res = found
    assert np.abs(best.logits.numpy() - low_res).max() < 2e-3
    assert np.abs(best.iou.numpy() - iou).max() < 1e-4
    assert masks.shape == (num_objects, 1, 60, 100)
    assert np.abs(model.preprocessing.restore_logits(best.logits, (60, 100)).numpy() - masks).max() < 5e-3


@torch.no_grad()
def test_a_mask_prompt_counts_only_where_it_is_said_to_be_there(exported):
    kind, model, folder = exported
    generator = torch.Generator().manual_seed(5)
    features, named = features_of(kind, generator)
    points, labels = torch.rand(2, 3, 2, generator=generator) * 128, torch.ones(2, 3)
    count = 1 if kind == "sam" else 2
    mask = torch.randn(count, 1, 32, 32, generator=generator)
    sizes = {"orig_im_size": torch.tensor([128.0, 128.0])} if kind == "sam" else {}
    given = {"point_coords": points, "point_labels": labels, "mask_input": mask, "has_mask_input": torch.ones(count)}
    found = session(folder, "decoder").run(None, as_numpy({**named, **given, **sizes}))
    if kind == "sam2":
        features = ImageFeatures(features.embedding - model.no_mem_embed.view(1, -1, 1, 1), features.high_res)
    prompts = Prompts(points, labels.long(), mask.expand(2, -1, -1, -1))
    expected = model.predict(features, prompts, torch.zeros(2, dtype=torch.long), multimask=kind == "sam2")
    assert np.abs(expected.logits.numpy() - found[-1 if kind == "sam" else 0]).max() < 2e-3


def test_a_precision_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="precision=fp8: expected one of fp32, fp16, int8"):
        export_onnx(CONFIG.build(), tmp_path, "fp8")
