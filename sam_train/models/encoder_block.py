"""What the blocks of all image encoders have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class EncoderBlock(nn.Module):
    """A block of an image encoder, from map to map. Blocks run in the order in which their encoder holds them.

    Attributes:
        checkpoint_activations: Keep only the input for the backward pass, which then computes the block once more
            (Chen et al., "Training deep nets with sublinear memory cost", 2016). Gradients are the same.
    """

    checkpoint_activations: bool = False

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """The map after the block."""

    def forward(self, x: Tensor) -> Tensor:
        """The same, keeping what :attr:`checkpoint_activations` says."""
        if self.checkpoint_activations:
            return checkpoint(self.transform, x, use_reentrant=False, context_fn=self._contexts)
        return self.transform(x)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._statistics_kept()

    @contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        """When the block is computed once more, its batch norms have already learned from this batch."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        try:
            yield
        finally:
            for norm, (momentum, num_batches) in zip(norms, before, strict=True):
                norm.momentum, norm.num_batches_tracked = momentum, num_batches


def encoder_blocks(encoder: nn.Module) -> list[EncoderBlock]:
    """An image encoder's blocks, first to last."""
    return [module for module in encoder.modules() if isinstance(module, EncoderBlock)]
