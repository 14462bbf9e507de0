"""The interface between image encoders and the rest of the package.

A new encoder is a frozen dataclass of its sizes (:class:`EncoderConfig`) and a module (:class:`StagedEncoder`). The
module itself declares its layers for adapters, its groups for layer decay, its tables that depend on the input size and
its layout in other checkpoint formats; no other code knows one encoder from another.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from sam_train.models.checkpoint_layout import HuggingFaceEncoder, PositionTable
from sam_train.models.encoder_block import encoder_blocks
from sam_train.models.unused_weights import Shapes
from sam_train.structures import EncoderState

Maps: TypeAlias = tuple[Float[Tensor, "B _ _ _"], ...]


@runtime_checkable
class EncoderConfig(Protocol):
    """Sizes of an image encoder, and with them which encoder it is."""

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of the embedding."""
        ...

    @property
    def size_multiple(self) -> int:
        """Number of pixels that the input's side must be a multiple of."""
        ...

    def build(self, out_channels: int) -> StagedEncoder:
        """Return the encoder with fresh weights; its embedding has this many channels."""
        ...


class StagedEncoder(nn.Module):
    """An image encoder as a sequence of steps: :meth:`start`, the :attr:`steps` in turn, :meth:`finish`.

    It can be left after any step and continued later. SAM expects one map from :meth:`finish`, at a
    ``1 / stride`` of the input's side; SAM 2 expects three, at a 4th, 8th and 16th.
    """

    @property
    @abstractmethod
    def steps(self) -> list[nn.Module]:
        """Blocks, and what lies between them, in the order in which they run."""

    @abstractmethod
    def start(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        """Return the input of the first step."""

    def advance(self, step: nn.Module, maps: Maps) -> Maps:
        """Run one step; most encoders have one map."""
        return (step(maps[-1]),)

    @abstractmethod
    def finish(self, maps: Maps) -> Any:
        """Return the encoder's output."""

    @property
    def unused_shapes(self) -> Shapes:
        """Names and shapes of tensors that released checkpoints hold and the encoder does not compute with."""
        return ()

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters in groups from the stem to the neck, for learning rates that fall with depth.

        The last group trains at the full rate, each other one slower than the next. Empty (the default) where the
        encoder declares none: layer decay is refused then.
        """
        return []

    def attention_layers(self) -> list[nn.Module]:
        """Return the linear layers of attention, which adapters are put on by default; in the order they run."""
        return [layer for block in encoder_blocks(self) for layer in block.attention_layers()]

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Return the parameters without weight decay beyond those that never have any: vectors and embeddings."""
        return []

    def position_tables(self) -> Mapping[str, PositionTable]:
        """Return the tensors that depend on the input's size, by their names in the encoder."""
        return {}

    def huggingface(self, image_size: int) -> HuggingFaceEncoder | None:
        """Return the layout in ``transformers`` for an input of this side; None if it has no such encoder."""
        return None

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Any:
        """Encode normalized images."""
        return self.finish(self._advance(self.start(images), self.steps))

    def prefix(self, images: Float[Tensor, "B 3 H W"], num_steps: int) -> EncoderState:
        """Run the first steps only."""
        return EncoderState(self._advance(self.start(images), self.steps[:num_steps]), num_steps)

    def rest(self, state: EncoderState) -> Any:
        """Return what :meth:`forward` returns, from where :meth:`prefix` stopped."""
        return self.finish(self._advance(state.maps, self.steps[state.num_steps :]))

    def _advance(self, maps: Maps, steps: list[nn.Module]) -> Maps:
        for step in steps:
            maps = self.advance(step, maps)
        return maps

    def _group_by_step(self, stem: Iterable[nn.Parameter], neck: nn.Module) -> list[list[nn.Parameter]]:
        """Return the usual layer groups: the stem, each step, and the neck together with the last step."""
        *steps, last = (list(step.parameters()) for step in self.steps)
        return [list(stem), *steps, [*last, *neck.parameters()]]
