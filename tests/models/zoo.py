"""Every preset with few blocks and a small input, so that tests can run all of them."""

from dataclasses import replace

import torch

from sam_train.models import PRESETS, ImageModel, ModelConfig
from sam_train.models.sam.tiny_vit import TinyViTConfig
from sam_train.models.sam2.hiera import HieraConfig
from sam_train.structures import PointLabel, Prompts

IMAGE_SIZE = 64


def light_config(preset: str, image_size: int = IMAGE_SIZE) -> ModelConfig:
    """The preset's widths, heads and windows with at least one block of each kind."""
    config = PRESETS[preset]
    encoder = config.encoder
    if isinstance(encoder, HieraConfig):
        encoder = replace(encoder, depths=(1, 1, 2, 1), global_blocks=(3,))
    elif isinstance(encoder, TinyViTConfig):
        encoder = replace(encoder, depths=(1, 1, 1, 1))
    else:
        encoder = replace(encoder, depth=2, global_blocks=(1,))
    return replace(config, encoder=encoder, preprocessing=replace(config.preprocessing, image_size=image_size))


@torch.no_grad()
def light_model(preset: str) -> ImageModel:
    """The model in evaluation mode and double precision, with weights that all have an effect."""
    torch.manual_seed(0)
    model = light_config(preset).build()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand_like(buffer))
    return model.double().eval()


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.double, generator=generator)


def mixed_prompts(dtype: torch.dtype = torch.double) -> Prompts:
    """Six objects: clicks, a box, a box with a click, a rough mask, a rough mask with a click, and nothing at all."""
    none, top_left, bottom_right = PointLabel.EMPTY, PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT
    labels = [
        [1, 0, none],
        [top_left, bottom_right, none],
        [top_left, bottom_right, 1],
        [none, none, none],
        [none, 0, none],
        [none, none, none],
    ]
    generator = torch.Generator().manual_seed(2)
    side = IMAGE_SIZE // 4
    return Prompts(
        points=IMAGE_SIZE * torch.rand(6, 3, 2, dtype=torch.double, generator=generator).to(dtype),
        labels=torch.tensor(labels),
        masks=5 * torch.randn(6, 1, side, side, dtype=torch.double, generator=generator).to(dtype),
        has_mask=torch.tensor([False, False, False, True, True, False]),
    )


def alone(prompts: Prompts, index: int) -> Prompts:
    """The prompts of one object without other objects, empty slots or masks that do not count."""
    given = prompts.labels[index] != PointLabel.EMPTY
    return Prompts(
        points=prompts.points[index, given][None],
        labels=prompts.labels[index, given][None],
        masks=prompts.masks[index][None] if prompts.has_mask[index] else None,
    )


def choose(prompts: Prompts, objects: list[int]) -> Prompts:
    """The prompts of these objects in this order."""
    return Prompts(prompts.points[objects], prompts.labels[objects], prompts.masks[objects], prompts.has_mask[objects])
