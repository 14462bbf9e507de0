"""The loss of a head that finds centers, against plain loops."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from sam_train.centers import CenterMaps, ObjectBoxes
from sam_train.losses.center_loss import CenterLoss, center_targets, gaussian_radius

GRID, STRIDE = 8, 4


def random_objects(number=5, images=2, categories=3, ignore=False):
    generator = torch.Generator().manual_seed(number)
    low = torch.rand(number, 2, generator=generator) * 20
    boxes = torch.cat([low, low + 1 + torch.rand(number, 2, generator=generator) * 10], dim=1)
    image = torch.randint(images, (number,), generator=generator).sort().values
    category = torch.randint(categories, (number,), generator=generator)
    ignored = None
    if ignore:
        ignored = torch.zeros(images, GRID * STRIDE, GRID * STRIDE, dtype=torch.bool)
        ignored[0, :18, :9] = True
    return ObjectBoxes(boxes.double(), image, category, ignored)


def random_maps(images=2, categories=3):
    generator = torch.Generator().manual_seed(0)
    return CenterMaps(
        *(torch.randn(images, number, GRID, GRID, generator=generator).double() for number in (categories, 2, 2))
    )


def plain_radius(width, height, overlap=0.7):
    """Tries ever larger radii."""
    radius = 0.0
    while True:
        r = radius + 1e-3
        true = torch.tensor([[0.0, 0, width, height]])
        moved = torch.tensor([[r, r, r, r], [r, r, -r, -r], [-r, -r, r, r]]) + true
        if box_iou(true, moved).min() < overlap:
            return radius
        radius = r


@pytest.mark.parametrize(("width", "height"), [(2.0, 3.0), (9.0, 1.5), (6.0, 6.0)])
def test_corners_within_the_radius_keep_the_overlap(width, height):
    found = gaussian_radius(torch.tensor([[width, height]]), 0.7)
    assert found.item() == pytest.approx(plain_radius(width, height), abs=2e-3)


def plain_loss(maps, truth):
    heat, size, offset = 0.0, 0.0, 0.0
    cells, target = [], torch.zeros(maps.heat.shape, dtype=torch.double)
    for box, image, category in zip(truth.boxes.tolist(), truth.object_image, truth.category, strict=True):
        width, height = (box[2] - box[0]) / STRIDE, (box[3] - box[1]) / STRIDE
        x, y = (box[0] + box[2]) / 2 / STRIDE, (box[1] + box[3]) / 2 / STRIDE
        column, row = int(x), int(y)
        sigma = (2 * gaussian_radius(torch.tensor([[width, height]]).double(), 0.7).item() + 1) / 6
        cells.append((int(image), row, column))
        for r in range(GRID):
            for c in range(GRID):
                value = math.exp(-((r - row) ** 2 + (c - column) ** 2) / (2 * sigma**2))
                target[image, category, r, c] = max(target[image, category, r, c].item(), value)
        said = maps.size[image, :, row, column].tolist()
        size += abs(said[0] - math.log(width)) + abs(said[1] - math.log(height))
        said = maps.offset[image, :, row, column].tolist()
        offset += abs(said[0] - (x - column)) + abs(said[1] - (y - row))
    for image, category, row, column in torch.ones_like(target).nonzero().tolist():
        p = 1 / (1 + math.exp(-maps.heat[image, category, row, column].item()))
        y = target[image, category, row, column].item()
        pixels = slice(row * STRIDE, row * STRIDE + STRIDE), slice(column * STRIDE, column * STRIDE + STRIDE)
        is_ignored = truth.ignore is not None and truth.ignore[image][pixels].any()
        if is_ignored and (image, row, column) not in cells:
            continue
        heat -= (1 - p) ** 2 * math.log(p) if y == 1 else (1 - y) ** 4 * p**2 * math.log(1 - p)
    return heat, size, offset


@pytest.mark.parametrize("ignore", [False, True])
def test_terms_equal_plain_loops(ignore):
    maps, truth = random_maps(), random_objects(ignore=ignore)
    terms = CenterLoss()(maps, center_targets(truth, 2, 3, GRID, STRIDE))
    assert [term.item() for term in terms] == pytest.approx(plain_loss(maps, truth))


def test_the_loss_of_a_batch_is_the_sum_over_its_images():
    maps, truth = random_maps(), random_objects(ignore=True)
    whole = CenterLoss()(maps, center_targets(truth, 2, 3, GRID, STRIDE))
    parts = [
        CenterLoss()(
            CenterMaps(*(part[image : image + 1] for part in maps)),
            center_targets(truth.select(slice(image, image + 1)), 1, 3, GRID, STRIDE),
        )
        for image in range(2)
    ]
    for index, term in enumerate(whole):
        assert term.item() == pytest.approx(sum(part[index].item() for part in parts))


def test_a_batch_without_objects_has_only_background():
    nothing = ObjectBoxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    sure = CenterMaps(torch.full((1, 1, GRID, GRID), -50.0), *torch.zeros(2, 1, 2, GRID, GRID))
    terms = CenterLoss()(sure, center_targets(nothing, 1, 1, GRID, STRIDE))
    assert [term.item() for term in terms] == [pytest.approx(0, abs=1e-6), 0, 0]
