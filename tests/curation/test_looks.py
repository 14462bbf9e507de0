"""Copies of an image look alike, other images do not, and the search for pairs misses none."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sam_train.curation import looks
from sam_train.curation.looks import DISTANCE, alike, look_of
from sam_train.data.world import ToySource


@pytest.fixture(scope="module")
def images():
    source = ToySource("world", 12, 0, 0, image_size=128).splits()["train"]
    return [Image.fromarray(source.read(index).image.permute(1, 2, 0).numpy()) for index in range(12)]


def look(image):
    found = look_of(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    assert found is not None
    return found


def jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def smaller(image):
    return image.resize((64, 64))


def darker(image):
    return image.point(lambda value: value // 2)


@pytest.mark.parametrize("copy", [jpeg, smaller, darker])
def test_a_copy_looks_alike_and_other_images_do_not(images, copy):
    ours = np.array([look(image) for image in images])
    theirs = np.array([look(copy(image)) for image in images])
    assert alike(ours, theirs).tolist() == [[index, index] for index in range(len(images))]


def test_an_image_of_one_color_looks_like_nothing():
    assert look_of(torch.full((3, 40, 50), 7, dtype=torch.uint8)) is None


@pytest.mark.parametrize("chunk", [1, 64, 1 << 22])
def test_every_pair_is_found_whatever_is_compared_at_once(chunk, monkeypatch):
    monkeypatch.setattr(looks, "_MOST_PAIRS", chunk)
    random = np.random.default_rng(0)
    ours = random.integers(0, 1 << 63, 300, dtype=np.uint64)
    flips = [random.permutation(64)[: random.integers(0, 10)] for _ in range(200)]
    flipped = np.array([sum(1 << int(bit) for bit in bits) for bits in flips], np.uint64)
    theirs = ours[random.integers(0, 300, 200)] ^ flipped
    expected = np.argwhere(np.bitwise_count(ours[:, None] ^ theirs) <= DISTANCE)
    assert len(expected) > 50
    assert np.array_equal(alike(ours, theirs), expected)
