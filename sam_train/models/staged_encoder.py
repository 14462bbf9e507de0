"""Image encoders as a row of steps, which can be left after any of them and gone on with later."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from sam_train.structures import EncoderState

Maps: TypeAlias = tuple[Float[Tensor, "B _ _ _"], ...]


class StagedEncoder(nn.Module):
    """What all image encoders have in common: :meth:`start`, the :attr:`steps` in turn, :meth:`finish`."""

    @property
    @abstractmethod
    def steps(self) -> list[nn.Module]:
        """Blocks, and what is between them, in the order in which they run."""

    @abstractmethod
    def start(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        """What the first step takes."""

    def advance(self, step: nn.Module, maps: Maps) -> Maps:
        """One step further; most have one map."""
        return (step(maps[-1]),)

    @abstractmethod
    def finish(self, maps: Maps) -> Any:
        """What the encoder returns."""

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Any:
        """What the encoder says of normalised images."""
        return self.finish(self._advance(self.start(images), self.steps))

    def prefix(self, images: Float[Tensor, "B 3 H W"], num_steps: int) -> EncoderState:
        """The first steps."""
        return EncoderState(self._advance(self.start(images), self.steps[:num_steps]), num_steps)

    def rest(self, state: EncoderState) -> Any:
        """What :meth:`forward` returns, from where :meth:`prefix` left off."""
        return self.finish(self._advance(state.maps, self.steps[state.num_steps :]))

    def _advance(self, maps: Maps, steps: list[nn.Module]) -> Maps:
        for step in steps:
            maps = self.advance(step, maps)
        return maps
