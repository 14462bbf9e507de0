"""Compare a compiled model with the same model in eager mode: ``python -m tests.models.compiled preset``.

This needs its own process, because the compiler cannot trace the shape checks that the test process installs.
"""

import sys

import torch
from torch import nn
from torch.testing import assert_close

from sam_train.structures import Prompts
from tests.models.zoo import images, light_model, mixed_prompts

OBJECT_IMAGE = torch.tensor([0, 0, 1, 1, 1, 2])


class Masks(nn.Module):
    """A model as a function from tensors to tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images, points, labels, object_image):
        prediction = self.model.decode(
            self.model.encode_image(images), Prompts(points, labels), object_image, multimask=True
        )
        return prediction.logits, prediction.iou


def arguments(objects: int):
    prompts = mixed_prompts(torch.float)
    return images(3).float(), prompts.points[:objects], prompts.labels[:objects], OBJECT_IMAGE[:objects]


@torch.no_grad()
def main(preset: str) -> None:
    """Check that the compiled model is one graph and equals the model for several numbers of objects."""
    masks = Masks(light_model(preset).float())
    compiled = torch.compile(masks, fullgraph=True)
    for count in (3, 6):
        assert_close(compiled(*arguments(count)), masks(*arguments(count)), atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    main(sys.argv[1])
