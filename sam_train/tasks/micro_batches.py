"""A step in parts: the gradient of the whole batch in the memory of a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sam_train.structures import Batch

Loss = Callable[[Batch], Tensor]
"""From a batch to its loss with the graph; losses of parts add up to that of the whole."""


def split_batch(batch: Batch, images: int) -> Iterator[Batch]:
    """Split a batch into batches of up to so many images."""
    num_images = len(batch.ids)
    if num_images <= images:
        yield batch
        return
    for start in range(0, num_images, images):
        yield batch.select(slice(start, start + images))


def loss_in_parts(
    loss_of: Loss, parts: Sequence[Batch], parameters: Sequence[torch.nn.Parameter], scale: float = 1.0
) -> Tensor:
    """Return the sum of the parts' losses, whose gradient is at hand already: one part's graph lives at a time.

    ``backward`` of the result hands the parameters the sum of the parts' gradients, through their usual hooks, so that
    whoever calls it (an optimizer's closure, gradient accumulation, DDP) need not know of the parts. A parameter that
    no part uses gets no gradient, as from the whole.

    Args:
        loss_of: The loss.
        parts: Of the batch.
        parameters: That train.
        scale: Of the losses while their gradients are computed, as a gradient scaler asks for in half precision; the
            result is without it.
    """
    total: Tensor | None = None
    sums: list[Tensor | None] = [None] * len(parameters)
    for part in parts:
        loss = loss_of(part)
        with torch.autocast(loss.device.type, enabled=False):  # as Lightning's own backward, outside of autocast
            gradients = torch.autograd.grad(loss * scale, parameters, allow_unused=True)
        for index, gradient in enumerate(gradients):
            if gradient is not None:
                before = sums[index]
                sums[index] = gradient if before is None else before.add_(gradient)
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None
    used = [(parameter, part) for parameter, part in zip(parameters, sums, strict=True) if part is not None]
    gradients = [gradient / scale for _, gradient in used]
    return _KnownGradient.apply(total, gradients, *(parameter for parameter, _ in used))


class _KnownGradient(torch.autograd.Function):
    """A number whose gradient with respect to each parameter is given."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * outer[0] for gradient in ctx.gradients)
