"""The predictor: any image in, masks at its size out; batches, refinement and options."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from sam_train.errors import InputError
from sam_train.inference.images import EncodedImages, read_pixels
from sam_train.inference.predictor import Predictor
from sam_train.inference.regions import Cleaning
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build

BOXES = [[10.0, 12, 60, 50], [5, 5, 30, 70], [40, 20, 90, 60]]


@pytest.fixture(scope="module", params=["sam", "sam2"])
def predictor(request):
    return Predictor(build(CONFIG if request.param == "sam" else SAM2_CONFIG))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_every_kind_of_image_is_the_same_image(tmp_path):
    pixels = noise(6, 9)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    expected = torch.from_numpy(pixels).permute(2, 0, 1)
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), image, pixels, expected, image.convert("RGBA")):
        assert torch.equal(read_pixels(given), expected)
    from_bgr = np.ascontiguousarray(pixels[..., ::-1])[..., ::-1]
    for given in (np.asarray(image), from_bgr, expected.flip(2).numpy()[:, :, ::-1].transpose(1, 2, 0)):
        assert torch.equal(read_pixels(given), expected)
    with_alpha = np.dstack([pixels, pixels[..., :1]])
    assert torch.equal(read_pixels(with_alpha), expected)


def test_gray_images_become_red_green_and_blue_and_deep_ones_are_stretched():
    gray = np.arange(40, dtype=np.uint8).reshape(5, 8)
    for given in (gray, gray[..., None], Image.fromarray(gray), torch.from_numpy(gray)):
        assert torch.equal(read_pixels(given), torch.from_numpy(gray).expand(3, 5, 8))
    deep = gray.astype(np.uint16) * 1000
    assert torch.equal(read_pixels(deep), read_pixels(Image.fromarray(deep)))
    assert read_pixels(deep).amax() == 255


def test_exif_orientation_is_obeyed(tmp_path):
    image = Image.fromarray(noise(6, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        assert read_pixels(opened).shape == (3, 9, 6)
        assert torch.equal(read_pixels(opened), read_pixels(tmp_path / "a.png"))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4), np.uint8),
        io.BytesIO(),
        "no.png",
    ],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InputError):
        read_pixels(image)


@pytest.mark.parametrize("size", [(70, 100), (128, 128), (300, 20), (1, 1)])
def test_masks_have_the_size_of_the_image(predictor, size):
    predictor.set_image(noise(*size))
    found = predictor.predict(points=[[0.5, 0.5]], multimask=True)
    assert found.masks.shape == (1, 3, *size)
    assert found.best().masks.shape == (1, 1, *size)
    assert found.best().iou.item() == found.iou.max()


def test_one_click_gives_the_best_of_three_and_a_box_the_single_mask(predictor):
    predictor.set_image(noise(70, 100))
    click, box = predictor.predict(points=[[50, 30]]), predictor.predict(boxes=BOXES[0])
    three = predictor.predict(points=[[50, 30]], multimask=True).best()
    single = predictor.predict(boxes=BOXES[0], multimask=False)
    assert torch.equal(click.masks, three.masks)
    assert torch.equal(box.masks, single.masks)
    assert click.masks.shape == (1, 1, 70, 100)


def test_objects_of_several_images_are_found_together_as_alone(predictor):
    images = [noise(70, 100, 1), noise(90, 60, 2), noise(50, 50, 3)]
    prompts = [
        {"boxes": BOXES},
        {"points": [[[20, 20]], [[30, 80], [10, 10]]], "labels": [[1], [1, 0]]},
        {"boxes": np.zeros((0, 4))},
    ]
    encoded = predictor.set_images(images)
    together = predictor.predict_batch(prompts)
    assert [len(found.masks) for found in together] == [3, 2, 0]
    for index, (image, some) in enumerate(zip(images, prompts, strict=True)):
        alone = predictor.predict(**some, image=predictor.encode([image]))
        assert_close(together[index].logits, alone.logits, atol=1e-4, rtol=1e-4)
        assert_close(together[index].iou, alone.iou, atol=1e-4, rtol=1e-4)
        kept = predictor.predict(**some, image=encoded.image(index))
        assert_close(kept.logits, alone.logits, atol=1e-4, rtol=1e-4)


def test_embeddings_are_kept_and_put_together_again(predictor):
    parts = [predictor.encode([noise(70, 100, 1)]), predictor.encode([noise(30, 40, 2)])]
    together = EncodedImages.cat(parts).to("cpu")
    assert len(together) == 2
    assert together.sizes == ((70, 100), (30, 40))
    assert torch.equal(together.image(1).features.embedding, parts[1].features.embedding)


def test_logits_of_one_prediction_are_a_prompt_of_the_next(predictor):
    predictor.set_image(noise(70, 100))
    first = predictor.predict(points=[[50, 30]])
    limit = predictor.model.logit_limit
    assert first.logits.abs().max() <= limit
    again = predictor.predict(points=[[50, 30], [20, 20]], labels=[1, 0], masks=first.logits)
    assert not torch.equal(again.logits, first.logits)
    assert predictor.predict(masks=first.logits).masks.shape == first.masks.shape


def test_no_pixel_belongs_to_two_objects_if_masks_are_not_to_overlap(predictor):
    image = noise(70, 100)
    plain, apart = predictor, Predictor(predictor.model, Cleaning(threshold=-0.5, non_overlapping=True))
    apart.set_image(image)
    loose = Predictor(predictor.model, Cleaning(threshold=-0.5))
    loose.set_image(image)
    found, free = apart.predict(boxes=BOXES).masks[:, 0], loose.predict(boxes=BOXES).masks[:, 0]
    assert int(found.sum(0).max()) == 1
    assert torch.equal(found.any(0), free.any(0))
    assert int(free.sum(0).max()) > 1
    assert plain.cleaning == Cleaning()


def test_mistakes_are_named(predictor):
    fresh = Predictor(predictor.model)
    with pytest.raises(InputError, match="give one at least"):
        fresh.set_images([])
    with pytest.raises(InputError, match="call set_image first"):
        fresh.predict(points=[[1, 1]])
    fresh.set_images([noise(8, 8), noise(8, 8)])
    with pytest.raises(InputError, match="prompts of 1 images for 2"):
        fresh.predict(points=[[1, 1]])
