"""``python -m tests.models.compiled preset``: a compiled model against itself.

In a process of its own: the compiler cannot look through the checks of shapes that the tests' process has.
"""

import sys

import torch
from torch import nn
from torch.testing import assert_close

from sam_train.structures import Prompts
from tests.models.zoo import images, light_model, mixed_prompts

OBJECT_IMAGE = torch.tensor([0, 0, 1, 1, 1, 2])


class Masks(nn.Module):
    """Tensors in, tensors out."""

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
    """One graph, and the same function for any number of objects."""
    masks = Masks(light_model(preset).float())
    compiled = torch.compile(masks, fullgraph=True)
    for count in (3, 6):
        assert_close(compiled(*arguments(count)), masks(*arguments(count)), atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    main(sys.argv[1])
