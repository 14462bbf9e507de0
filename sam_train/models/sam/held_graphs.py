"""How much memory the graphs of forward passes hold until their backward pass."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor


class _Life:
    """Lives as long as the graph it is attached to."""


class HeldGraphs:
    """A count of the bytes that graphs hold, from their forward pass until their backward pass begins or they are gone.

    Attributes:
        num_bytes: Bytes held now.
    """

    def __init__(self) -> None:
        self.num_bytes = 0

    def add(self, output: Tensor, num_bytes: int) -> None:
        """Count the graph that ends in this output; without a gradient there is none, and a compiler has its own."""
        node = output.grad_fn
        if node is None or torch.compiler.is_compiling():
            return
        self.num_bytes += num_bytes
        life = _Life()
        node.metadata["held"] = life  # pyright: ignore[reportIndexIssue] a property, whatever the stubs say
        release = weakref.finalize(life, self._release, num_bytes)  # does its work once, whoever calls it first
        release.atexit = False
        node.register_prehook(lambda _: release())

    def _release(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes
