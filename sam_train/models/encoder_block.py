"""The blocks that image encoders are made of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class EncoderBlock(nn.Module):
    """A block of an image encoder, from map to map. An encoder's modules hold its blocks in the order they run.

    Attributes:
        checkpoint_activations: Keep only the input for the backward pass, which then runs the block again (Chen et al.,
            "Training deep nets with sublinear memory cost", 2016). Gradients are the same.
    """

    checkpoint_activations: bool = False

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """Return the map after the block."""

    def attention_layers(self) -> list[nn.Module]:
        """Return the linear layers of the block's attention; a block without attention has none."""
        return []

    def forward(self, x: Tensor) -> Tensor:
        """Run :meth:`transform`, and keep for the backward pass what :attr:`checkpoint_activations` says."""
        if self.checkpoint_activations:
            return checkpoint(self.transform, x, use_reentrant=False, context_fn=self._contexts)
        return self.transform(x)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._frozen_statistics()

    @contextmanager
    def _frozen_statistics(self) -> Iterator[None]:
        """Leave the statistics of batch norms alone while the block runs again: they have seen this batch already."""
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
    """Return an image encoder's blocks, first to last."""
    return [module for module in encoder.modules() if isinstance(module, EncoderBlock)]
