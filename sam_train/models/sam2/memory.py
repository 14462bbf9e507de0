"""The half of SAM 2 that remembers: its weights, what it keeps of a frame, and how a frame looks back on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from sam_train.models.layers import MLP
from sam_train.models.position_encoding import axial_rotation, sine_encoding, sine_grid
from sam_train.models.sam2.memory_attention import MemoryAttention, Recalled
from sam_train.models.sam2.memory_bank import (
    NUM_MEMORIES,
    Course,
    Memory,
    MemoryBank,
    Recollection,
    TrackingRules,
)
from sam_train.models.sam2.memory_encoder import MemoryEncoder
from sam_train.models.unused_weights import hold_unused_weights
from sam_train.structures import ImageFeatures

Version = Literal["2.0", "2.1"]

MEMORY_DIM = 64
MASK_SCALE, MASK_BIAS = 20.0, -10.0  # from probabilities to what the memory encoder sees of a mask
PLACE_WEIGHT = 0.1  # of the encoding of a cell's place that is added to the cell
KEPT_CELLS = 1 << 10  # memories of frames with up to this many cells hold their keys; see :meth:`FrameMemory.memorize`

_NAMES = (
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "obj_ptr_tpos_proj",
    "obj_ptr_proj",
    "mask_downsample",
    "memory_attention",
    "memory_encoder",
)


class FrameMemory(nn.Module):
    """The part of SAM 2 that images do not need. Names are the official checkpoints'.

    Attributes:
        memory_shapes: Names and shapes of the memory's tensors in a checkpoint; none without a memory.
    """

    maskmem_tpos_enc: nn.Parameter
    no_obj_ptr: nn.Parameter
    no_obj_embed_spatial: nn.Parameter
    obj_ptr_tpos_proj: nn.Linear
    obj_ptr_proj: MLP
    mask_downsample: nn.Conv2d
    memory_attention: MemoryAttention
    memory_encoder: MemoryEncoder
    memory_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def add_memory(self, dim: int, version: Version) -> None:
        """Give the model a memory with fresh weights.

        Args:
            dim: Channels of the image embedding.
            version: 2.1 tells where an object is hidden and how long ago a pointer was; 2.0 does not.
        """
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(NUM_MEMORIES, 1, 1, MEMORY_DIM))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, dim))
        embeddings = [self.maskmem_tpos_enc, self.no_obj_ptr]
        if version == "2.1":
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, MEMORY_DIM))
            self.obj_ptr_tpos_proj = nn.Linear(dim, MEMORY_DIM)
            embeddings.append(self.no_obj_embed_spatial)
        self.obj_ptr_proj = MLP(dim, dim, dim, 3)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.memory_attention = MemoryAttention(dim, MEMORY_DIM)
        self.memory_encoder = MemoryEncoder(dim, MEMORY_DIM)
        hold_unused_weights(self, [("no_mem_pos_enc", (1, 1, dim))])
        for embedding in embeddings:
            nn.init.trunc_normal_(embedding, std=0.02)
        self.memory_shapes = tuple((name, tuple(tensor.shape)) for name, tensor in self.memory_state())

    def initialize_memory(self) -> None:
        """Give the memory fresh weights in place, to train it for an image model that has none (:meth:`has_memory`)."""
        fresh = FrameMemory()
        fresh.add_memory(self.no_obj_ptr.shape[1], "2.1" if self._is_21 else "2.0")
        self.load_state_dict(fresh.state_dict(), strict=False)

    def memory_state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the memory's tensors by name, those that no computation needs included; none without a memory."""
        for name, tensor in self.state_dict(keep_vars=True).items():
            if name.partition(".")[0] in _NAMES:
                yield name, tensor

    def has_memory(self) -> bool:
        """Return whether the memory has weights; they are zero where a checkpoint of an image model was loaded."""
        return any(bool(tensor.any()) for _, tensor in self.memory_state())

    def recall(
        self,
        features: ImageFeatures,
        object_image: Int[Tensor, "P"],
        bank: MemoryBank,
        frame: int,
        course: Course,
        rules: TrackingRules,
    ) -> Float[Tensor, "P C h w"]:
        """Return each object's embedding of its frame, after looking at what is remembered of the object.

        Args:
            features: Features of B frames, one of each clip.
            object_image: Index of each object's clip.
            bank: What is remembered of the P objects; something of each.
            frame: Index of the frame in its clip.
            course: The way through the clips.
            rules: How objects are followed.
        """
        embedding = features.embedding
        size = embedding.shape[-2], embedding.shape[-1]
        placed = embedding + PLACE_WEIGHT * sine_grid(size, embedding.shape[1], embedding).to(embedding.dtype)
        x = placed.flatten(2).transpose(1, 2)
        recalled = self._gather(bank.look_back(frame, course, rules), course, size, x)
        x = self.memory_attention(x, object_image, recalled, self._rotation(size, x))
        return x.transpose(1, 2).unflatten(2, size)

    def point(self, tokens: Float[Tensor, "P C"], object_score: Float[Tensor, "P"]) -> Float[Tensor, "P C"]:
        """Return the pointers to objects with these mask tokens; all that are not in the frame have the same."""
        return torch.where(object_score[:, None] > 0, self.obj_ptr_proj(tokens), self.no_obj_ptr)

    def memorize(
        self,
        features: ImageFeatures,
        object_image: Int[Tensor, "P"],
        frame: int,
        masks: Float[Tensor, "P 1 S S"],
        object_score: Float[Tensor, "P"],
        pointers: Float[Tensor, "P C"],
        dtype: torch.dtype | None = None,
    ) -> list[Memory]:
        """Return what is to be remembered of P objects on a frame.

        Where a frame has few cells, its keys (:class:`sam_train.models.sam2.memory_attention.MemoryCrossAttention`) are
        made now, once; in frames with many they cost next to nothing beside what is done with them, and 16 times the
        memory of the values: they are made again from the values whenever they are looked at.

        Args:
            features: Features of B frames, one of each clip.
            object_image: Index of each object's clip.
            frame: Index of the frame in its clip.
            masks: Each pixel's probability of being inside.
            object_score: Positive where the object is in the frame.
            pointers: From :meth:`point`.
            dtype: What the cells are kept in; None for what they are computed in.
        """
        seen = masks.to(features.embedding.dtype) * MASK_SCALE + MASK_BIAS
        cells = self.memory_encoder(features.embedding, seen, object_image)
        if self._is_21:
            hidden = (object_score <= 0)[:, None, None, None]
            cells = cells + torch.where(hidden, self.no_obj_embed_spatial[..., None, None], 0)
        size = cells.shape[-2], cells.shape[-1]
        values = cells.flatten(2).transpose(1, 2).to(dtype or cells.dtype)
        keys: list[tuple[Tensor, ...]] = []
        if values.shape[1] <= KEPT_CELLS:
            placed = values.to(cells.dtype) + self._places(size, cells)
            layers = self.memory_attention.keys_of(placed, self._rotation(size, cells))
            keys = list(zip(*(layer.unbind() for layer in layers), strict=True))
        rows = zip(pointers.unbind(), values.unbind(), keys or [None] * len(values), strict=True)
        return [Memory(frame, pointer, value, key) for pointer, value, key in rows]

    @property
    def _is_21(self) -> bool:
        return hasattr(self, "obj_ptr_tpos_proj")

    def _places(self, size: tuple[int, int], like: Tensor) -> Float[Tensor, "L D"]:
        return sine_grid(size, MEMORY_DIM, like)[0].flatten(1).T.to(like.dtype)

    def _rotation(self, size: tuple[int, int], like: Tensor) -> Complex[Tensor, "L c"]:
        return axial_rotation(size, self.no_obj_ptr.shape[1], like)

    def _gather(
        self, looks: Sequence[Recollection], course: Course, size: tuple[int, int], like: Tensor
    ) -> list[Recalled]:
        """Put together what objects look at, those with memories of the same ages in one."""
        alike: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for index, look in enumerate(looks):
            assert look.memories, "an object of which nothing is remembered looks back"
            alike.setdefault((look.ages, len(look.pointers)), []).append(index)
        recalled = []
        for (ages, _), objects in alike.items():
            rows = [looks[index] for index in objects]
            memories = tuple(memory for look in rows for memory in look.memories)
            cells = torch.stack([memory.values for memory in memories if memory.values is not None]).to(like.dtype)
            values, keys = self._pointers(rows, course, like)
            recalled.append(
                Recalled(
                    objects=slice(None) if len(alike) == 1 else torch.tensor(objects, device=like.device),
                    ages=self.maskmem_tpos_enc.flatten(1)[list(ages)],
                    memories=memories,
                    placed=None if memories[0].keys is not None else cells + self._places(size, like),
                    values=torch.cat([cells.unflatten(0, (len(rows), -1)).flatten(1, 2), values], dim=1),
                    pointers=keys,
                )
            )
        return recalled

    def _pointers(
        self, looks: Sequence[Recollection], course: Course, like: Tensor
    ) -> tuple[Float[Tensor, "p n D"], Float[Tensor, "p n D"]]:
        """Return the pointers of objects that have as many, cut into vectors of the memory's size, and these placed."""
        num_pointers = len(looks[0].pointers)
        if num_pointers == 0:
            nothing = like.new_zeros(len(looks), 0, MEMORY_DIM)
            return nothing, nothing
        pointers = torch.stack([memory.pointer for look in looks for memory in look.pointers]).to(like.dtype)
        values = pointers.unflatten(1, (-1, MEMORY_DIM))
        placed = values
        if self._is_21:
            distances = torch.tensor([look.distances for look in looks], dtype=like.dtype, device=like.device)
            times = sine_encoding(distances.flatten() / max(course.num_pointers - 1, 1), pointers.shape[1])
            placed = values + self.obj_ptr_tpos_proj(times)[:, None]
        return values.unflatten(0, (len(looks), -1)).flatten(1, 2), placed.unflatten(0, (len(looks), -1)).flatten(1, 2)
