"""What procedural data promises: the same bits everywhere, exact masks, and the objects its documentation names."""

import pickle
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from scipy import ndimage

from sam_train.data.world import DOMAINS, ToySource
from sam_train.data.world.canvas import Canvas
from sam_train.data.world.outlines import CIRCLE
from sam_train.errors import InputError
from sam_train.structures import Sample

each_domain = pytest.mark.parametrize("domain", DOMAINS)


def source(domain: str, split="train", image_size: int = 128, number: int = 1000, seed: int = 0):
    return ToySource(domain, number, number, number, image_size, seed).splits()[split]


def checksum(sample: Sample) -> int:
    tensors = sample.image, sample.labels, sample.plane, sample.value
    return zlib.crc32(b"".join(tensor.numpy().tobytes() for tensor in tensors))


def test_same_bits_in_another_process_with_other_threads_and_in_another_order():
    program = (
        "import torch; torch.set_num_threads(3); from tests.data.world.test_world import *\n"
        "for domain in reversed(DOMAINS):\n"
        "    for index in (5, 1): print(checksum(source(domain).read(index)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = {(domain, index): checksum(source(domain).read(index)) for domain in DOMAINS for index in (1, 5)}
    assert result.stdout.split() == [str(here[domain, index]) for domain in reversed(DOMAINS) for index in (5, 1)]


@each_domain
def test_image_depends_on_its_index_and_not_on_how_many_there_are(domain):
    assert checksum(source(domain, number=8).read(-1)) == checksum(source(domain, number=9).read(7))


@each_domain
def test_pickled_source_reads_the_same(domain):
    original = source(domain)
    copy = pickle.loads(pickle.dumps(original))
    assert checksum(copy.read(3)) == checksum(original.read(3))
    assert copy.ids[3] == original.ids[3] == f"toy-{domain}/train/000003"


@each_domain
def test_no_image_in_two_splits_or_seeds(domain):
    sources = [source(domain, split) for split in ("train", "val", "test")] + [source(domain, seed=1)]
    images = [source.read(index).image.numpy().tobytes() for source in sources for index in range(6)]
    assert len(set(images)) == len(images)
    ids = [source.ids[index] for source in sources[:3] for index in range(6)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("domain", "image_size"), [*((domain, 64) for domain in DOMAINS), ("world", 1024)])
def test_samples_are_well_formed_at_every_size(domain, image_size):
    sample = source(domain, image_size=image_size).read(2)
    assert sample.image.shape == (3, image_size, image_size)
    assert sample.image.dtype == torch.uint8
    assert sample.image.float().std() > 0.5  # not blank
    assert sample.labels.shape[1:] == sample.size
    assert len(sample.plane) == len(sample.value) > 0
    assert len(torch.unique(torch.stack([sample.plane, sample.value]), dim=1).T) == len(sample.value)
    assert torch.equal(sample.plane.unique(), torch.arange(len(sample.labels)))


@each_domain
def test_areas_offered_are_those_of_the_masks_and_none_is_below_the_minimum(domain):
    offered = []

    def remember(shares):
        offered.append(shares)
        return torch.arange(len(shares))

    for index in range(8):
        sample = source(domain).read(index, remember)
        assert torch.equal(offered[-1] * sample.image[0].numel(), sample.masks().sum((1, 2)).float())
        assert offered[-1].min() >= 16 / 256**2


@each_domain
def test_chosen_objects_are_those_of_the_whole_list(domain):
    everything = source(domain, number=50).read(4)
    some = source(domain, number=50).read(4, lambda areas: areas.argsort()[-2:])
    order = everything.masks().sum((1, 2)).float().argsort()[-2:]
    assert torch.equal(some.masks(), everything.masks()[order])
    nothing = source(domain).read(4, lambda areas: torch.arange(0))
    assert nothing.masks().shape == (0, 128, 128)


@each_domain
def test_every_part_lies_in_one_whole(domain):
    for index in range(12):
        sample = source(domain).read(index)
        for plane, value in zip(sample.plane.tolist(), sample.value.tolist(), strict=True):
            if plane:
                below = sample.labels[plane - 1][sample.labels[plane] == value].unique()
                assert len(below) == 1
                assert below.item() != 0


@each_domain
def test_has_touching_tiny_and_hollow_objects(domain):
    found = np.zeros(3, int)
    for index in range(40):
        sample = source(domain).read(index)
        wholes, masks = sample.labels[0].numpy(), sample.masks().numpy()
        touching = ((wholes[1:] != wholes[:-1]) & (wholes[1:] > 0) & (wholes[:-1] > 0)).any()
        tiny = (masks.sum((1, 2)) < 20).any()
        hollow = any(ndimage.binary_fill_holes(mask).sum() > 1.1 * mask.sum() for mask in masks)
        found += np.array([touching, tiny, hollow], int)
        if found.min() >= 2:
            break
    assert found.min() >= 2, found


def test_world_is_wide():
    samples = [source("world", image_size=128).read(index) for index in range(100)]
    numbers = [len(sample.value) for sample in samples]
    assert min(numbers) == 1
    assert max(numbers) > 70
    assert sum(len(sample.labels) > 1 for sample in samples) > 10  # wholes with parts
    assert sum(len(sample.labels) > 2 for sample in samples) > 1  # and parts of parts
    gray = [bool((sample.image == sample.image[:1]).all()) for sample in samples]
    assert 15 < sum(gray) < 85
    brightness = [sample.image.float().mean().item() for sample in samples]
    assert np.percentile(brightness, 5) < 40
    assert np.percentile(brightness, 95) > 170


@each_domain
def test_objects_grow_with_the_image(domain):
    def median_share(image_size: int) -> float:
        areas = [source(domain, image_size=image_size).read(index).masks().sum((1, 2)) for index in range(10)]
        return torch.cat(areas).float().median().item() / image_size**2

    assert median_share(256) == pytest.approx(median_share(128), rel=0.25)


def disc(size: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] + 0.5
    return np.hypot(columns - x, rows - y) < radius


def test_mask_is_half_coverage_and_the_later_object_is_in_front():
    canvas = Canvas(128)
    first, second = (canvas.cover(CIRCLE, (x / 128, 0.5), 30.3 / 128) for x in (50.2, 80.7))
    for covered, value in ((first, 1.0), (second, 0.5)):
        canvas.paint(covered, value)
        canvas.label(covered, canvas.new_object())
    far, near = disc(128, 50.2, 64, 30.3), disc(128, 80.7, 64, 30.3)
    truth = np.where(near, 2, np.where(far, 1, 0))
    rows, columns = np.mgrid[:128, :128] + 0.5
    from_edges = np.minimum(*(np.abs(np.hypot(columns - x, rows - 64) - 30.3) for x in (50.2, 80.7)))
    assert from_edges[canvas.labels[0] != truth].max() < 0.3  # at most pixels that the edge all but halves
    assert np.array_equal(canvas.areas(), [(canvas.labels[0] == 1).sum(), (canvas.labels[0] == 2).sum()])
    assert canvas.areas()[1] == pytest.approx(np.pi * 30.3**2, rel=0.012)
    left = slice(0, 45)
    assert np.array_equal(canvas.image[0, :, left] >= 0.5, canvas.labels[0, :, left] == 1)
    edge = canvas.image[0][(canvas.image[0] > 0) & (canvas.image[0] < 0.5)]
    assert len(np.unique(edge.round(3))) > 3  # drawn with smooth edges


def test_part_cannot_leave_its_whole_and_hides_with_it():
    canvas = Canvas(64)
    whole = canvas.cover(CIRCLE, (0.4, 0.5), 0.2)
    canvas.label(whole, canvas.new_object())
    part = canvas.cover(CIRCLE, (0.55, 0.5), 0.1, inside=whole)
    canvas.label(part, 1, canvas.new_object(1))
    assert set(np.unique(canvas.labels[0][canvas.labels[1] == 2])) == {1}
    canvas.label(canvas.cover(CIRCLE, (0.55, 0.5), 0.15), canvas.new_object())
    assert canvas.areas()[1] == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("domain", "tisue", r"'tisue'; nearest: tissue.*; all: cells, tissue, ultrasound, texture, shapes, world"),
        ("image_size", 2048, "64 to 1024"),
        ("num_val", -1, "num_val=-1"),
        ("seed", -3, "seed=-3"),
    ],
)
def test_wrong_field_is_named(field, value, message):
    fields = {"domain": "cells", "num_train": 1, "num_val": 1, "num_test": 1, field: value}
    with pytest.raises(InputError, match=message):
        ToySource(**fields)


def test_names_cost_nothing_and_end_where_they_should():
    ids = source("cells", number=10**9).ids
    assert ids[-1] == "toy-cells/train/999999999"
    assert list(ids[2:4]) == ["toy-cells/train/000002", "toy-cells/train/000003"]
    with pytest.raises(IndexError):
        source("cells", number=3).read(3)
