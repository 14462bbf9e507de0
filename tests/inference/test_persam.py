"""One example of an object is enough to find its like in another image."""

import pytest
import torch

from sam_train.checkpoints import load_checkpoint
from sam_train.errors import InputError
from sam_train.inference.persam import find_alike
from sam_train.models import build_model

HEIGHT, WIDTH = 200, 256
PLACES = [(60, 60), (140, 190), (60, 190), (140, 60)]


@pytest.fixture(scope="module")
def model():
    model = build_model("sam_nano").eval()
    load_checkpoint(model, "sam_nano")
    return model


def scene(seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A red disc and a blue square on noisy gray, at random places; the image and both masks."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    image = 90 + 10 * torch.randn(3, HEIGHT, WIDTH, generator=generator) + 20 * columns / WIDTH
    places = torch.randperm(4, generator=generator).tolist()
    masks = []
    for color, place in zip(((220, 40, 40), (40, 90, 220)), places, strict=False):
        size = int(torch.randint(22, 36, (1,), generator=generator))
        dy, dx = rows - PLACES[place][0], columns - PLACES[place][1]
        mask = dy**2 + dx**2 < size**2 if not masks else (dy.abs() < size) & (dx.abs() < size)
        paint = torch.tensor(color).view(3, 1, 1) + 12 * torch.randn(3, HEIGHT, WIDTH, generator=generator)
        image = torch.where(mask, paint, image)
        masks.append(mask)
    return image.clamp(0, 255).to(torch.uint8), masks


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one & other).sum() / (one | other).sum().clamp(min=1)).item()


def test_the_object_is_found_and_not_the_other_one(model):
    same, other = [], []
    for seed in range(6):
        (example, example_masks), (image, masks) = scene(seed), scene(seed + 100)
        for number in (0, 1):
            found = find_alike(model, example, example_masks[number], image)
            assert found.mask.shape == (HEIGHT, WIDTH)
            same.append(overlap(found.mask, masks[number]))
            other.append(overlap(found.mask, masks[1 - number]))
    assert sum(same) / len(same) > 0.25
    assert sum(other) / len(other) < 0.1


def test_the_object_is_found_in_its_own_image(model):
    example, masks = scene(3)
    found = find_alike(model, example, masks[1], example)
    assert overlap(found.mask, masks[1]) > 0.7
    cells = masks[1][8::16, 8::16]  # their middles: 12 whole rows of cells, and padding from the 13th on
    assert found.similarity[:12][cells].mean() > found.similarity[:12][~cells].mean() + 0.05
    assert (found.similarity[13:] == -1).all()


def test_sam2_and_masks_that_cannot_be_are_refused(model):
    example, masks = scene(0)
    with pytest.raises(InputError, match="Sam2 is none: use a SAM preset"):
        find_alike(build_model("sam2_nano", 64), example, masks[0], example)
    with pytest.raises(InputError, match=r"a mask of \(200, 256\) with 0 pixels"):
        find_alike(model, example, masks[0] & ~masks[0], example)
    with pytest.raises(InputError, match=r"a mask of \(100, 256\).* for an example of \(200, 256\)"):
        find_alike(model, example, masks[0][::2], example)
