"""SAM 2's memory attention: a frame's cells look at each other and at what is remembered (Ravi et al. 2024, section 4).

A frame has L = 4096 cells, a memory as many, and up to seven memories or more are looked at, each by every object for
itself. So comparing cells with remembered cells is what tracking costs; :class:`MemoryCrossAttention` says what is not
done per frame. Dropout, which the official training has in these layers, there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sam_train.models.position_encoding import rotate
from sam_train.models.sam2.memory_bank import Memory

DEPTH = 4
MLP_DIM = 2048

SCORES_SIZE = 1 << 21  # scores of an object are made in parts of about this many: what a CPU's caches hold
KEPT_SCORES_SIZE = 1 << 19  # an object's scores are kept for the gradient up to this many, and else made again for it


class Recalled(NamedTuple):
    """What objects with memories of the same ages look at, one behind the other.

    Attributes:
        objects: Their places among the P objects; a slice where these are all of them.
        ages: Per memory, the learned encoding of its age.
        memories: All memories of the first object, then those of the second, and so on.
        placed: Their cells with the encoding of their places; None where the memories hold their keys.
        values: The memories' cells and then the pointers, cut into vectors of the memory's size.
        pointers: The latter with the encoding of their distance.
    """

    objects: slice | Int[Tensor, "p"]
    ages: Float[Tensor, "S D"]
    memories: tuple[Memory, ...]
    placed: Float[Tensor, "pS L D"] | None
    values: Float[Tensor, "p K D"]
    pointers: Float[Tensor, "p n D"]


class RotarySelfAttention(nn.Module):
    """Attention of one head among the cells of a frame, whose positions turn what is compared."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "P L C"], rotation: Complex[Tensor, "L c"]) -> Float[Tensor, "P L C"]:
        """Let every cell look at every other."""
        query, key = (rotate(proj(x), rotation) for proj in (self.q_proj, self.k_proj))
        return self.out_proj(attend(query, key, self.v_proj(x)))


class MemoryCrossAttention(nn.Module):
    """Attention of one head from the cells of a frame to remembered cells and pointers.

    The key of cell i of a memory of age t is R_i (W_k (m_i + s_i + a_t) + b_k): its value m, the encodings s of its
    place and a of its age, and the turn R of its place. R and W_k are linear, so that is

        R_i (W_k (m_i + s_i) + b_k)  +  R_i W_k a_t.

    Nothing in the first part changes from frame to frame: :meth:`keys_of` makes it once, with the memory. The second is
    the same for all objects and memories of an age. What is seen is projected after it is summed up, for weights w that
    sum to one: Σ w (W_v m + b_v) = W_v (Σ w m) + b_v. So values are never projected, and sums are over vectors of a
    quarter of the size. Both are equal to the plain form up to rounding.
    """

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(memory_dim, dim)
        self.v_proj = nn.Linear(memory_dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def keys_of(self, placed: Float[Tensor, "P L D"], rotation: Complex[Tensor, "L c"]) -> Float[Tensor, "P L C"]:
        """Return the part of memories' keys that does not depend on their age.

        Args:
            placed: The memories with the encoding of their cells' places.
            rotation: Of these places.
        """
        return rotate(self.k_proj(placed), rotation)

    def forward(
        self,
        x: Float[Tensor, "P L C"],
        recalled: Sequence[Recalled],
        layer: int,
        rotation: Complex[Tensor, "L c"],
    ) -> Float[Tensor, "P L C"]:
        """Let each object's cells look at what it remembers.

        Args:
            x: Cells of the present frame.
            recalled: Each object is in one of them.
            layer: Index of this layer, for the memories' keys.
            rotation: Of the cells' places.
        """
        query = rotate(self.q_proj(x), rotation)
        seen = [attend(query[some.objects], self._keys(some, layer, rotation), some.values) for some in recalled]
        if len(recalled) > 1:
            order = torch.cat([some.objects for some in recalled if isinstance(some.objects, Tensor)])
            seen = [torch.cat(seen)[order.argsort()]]
        return self.out_proj(self.v_proj(seen[0]))

    def _keys(self, some: Recalled, layer: int, rotation: Complex[Tensor, "L c"]) -> Float[Tensor, "p K C"]:
        if some.placed is None:
            keys = torch.stack([memory.keys[layer] for memory in some.memories if memory.keys is not None])
        else:
            keys = self.keys_of(some.placed, rotation)
        ages = (self.k_proj(some.ages) - self.k_proj.bias)[:, None].expand(-1, keys.shape[1], -1)
        cells = keys.unflatten(0, (-1, len(some.ages))) + rotate(ages, rotation)
        return torch.cat([cells.flatten(1, 2), self.k_proj(some.pointers)], dim=1)


class MemoryAttentionLayer(nn.Module):
    """The cells of a frame look at each other, at what is remembered, and then each at itself."""

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.self_attn = RotarySelfAttention(dim)
        self.cross_attn_image = MemoryCrossAttention(dim, memory_dim)
        self.linear1 = nn.Linear(dim, MLP_DIM)
        self.linear2 = nn.Linear(MLP_DIM, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self,
        x: Float[Tensor, "B L C"],
        object_image: Int[Tensor, "P"] | None,
        recalled: Sequence[Recalled],
        layer: int,
        rotation: Complex[Tensor, "L c"],
    ) -> Float[Tensor, "P L C"]:
        """Return each object's cells after the layer; arguments as in :meth:`MemoryAttention.forward`.

        Without ``object_image`` the frames are the objects' own already.
        """
        x = x + self.self_attn(self.norm1(x), rotation)
        if object_image is not None:
            x = x[object_image]
        x = x + self.cross_attn_image(self.norm2(x), recalled, layer, rotation)
        return x + self.linear2(F.relu(self.linear1(self.norm3(x))))


class MemoryAttention(nn.Module):
    """Layers that bring what is remembered of objects into the embeddings of their frames."""

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(dim, memory_dim) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(dim)

    def attention_layers(self) -> list[nn.Module]:
        """Return the linear layers of attention, as image encoders do."""
        attentions = [block for layer in self._layers() for block in (layer.self_attn, layer.cross_attn_image)]
        return [layer for block in attentions for layer in block.children()]

    def keys_of(self, placed: Float[Tensor, "P L D"], rotation: Complex[Tensor, "L c"]) -> list[Float[Tensor, "P L C"]]:
        """Return what memories are compared by, layer by layer; see :meth:`MemoryCrossAttention.keys_of`."""
        return [layer.cross_attn_image.keys_of(placed, rotation) for layer in self._layers()]

    def forward(
        self,
        x: Float[Tensor, "B L C"],
        object_image: Int[Tensor, "P"],
        recalled: Sequence[Recalled],
        rotation: Complex[Tensor, "L c"],
    ) -> Float[Tensor, "P L C"]:
        """Return the cells of each object's frame after it has looked at what is remembered of the object.

        In the first layer all objects of a frame see the same before they look back: that is done once per frame.

        Args:
            x: Cells of the frames, with an encoding of their places.
            object_image: Index of each object's frame.
            recalled: What the objects look at; each object is in one of them.
            rotation: Of the cells' places.
        """
        for index, layer in enumerate(self.layers):
            x = layer(x, object_image if index == 0 else None, recalled, index, rotation)
        return self.norm(x)

    def _layers(self) -> list[MemoryAttentionLayer]:
        return [layer for layer in self.layers if isinstance(layer, MemoryAttentionLayer)]


def attend(
    query: Float[Tensor, "P Q C"], key: Float[Tensor, "P K C"], value: Float[Tensor, "P K D"]
) -> Float[Tensor, "P Q D"]:
    """Return each query's mean of the values, weighted by how alike query and key are; values may be the narrower.

    Fused attention takes values of the keys' size only: narrower ones are filled up for it. On a CPU it gains nothing
    over products of matrices on parts of the queries, which take what they are given (float32 on one core of an Intel
    Xeon, Q = 1024, K = 7232, C = 256, D = 64: 0.9 of its time forward, 0.9 with backward, in which scores are made
    again; Q = 256: 0.4 and 0.5, in which they are kept).
    """
    if query.device.type != "cpu":
        filled = F.pad(value, (0, query.shape[-1] - value.shape[-1]))[:, None]
        return F.scaled_dot_product_attention(query[:, None], key[:, None], filled)[:, 0, :, : value.shape[-1]]
    num_queries, num_keys = query.shape[1], key.shape[1]
    again = torch.is_grad_enabled() and num_queries * num_keys > KEPT_SCORES_SIZE
    seen = []
    for one in zip(query, key, value, strict=True):
        for part in one[0].split(max(SCORES_SIZE // num_keys, 1)):
            inputs = part, *one[1:]
            seen.append(
                checkpoint(_weigh, *inputs, use_reentrant=False, preserve_rng_state=False) if again else _weigh(*inputs)
            )
    return torch.cat(seen).unflatten(0, (-1, num_queries)) if seen else value.new_zeros(0, num_queries, value.shape[-1])


def _weigh(query: Float[Tensor, "Q C"], key: Float[Tensor, "K C"], value: Float[Tensor, "K D"]) -> Float[Tensor, "Q D"]:
    return ((query * query.shape[-1] ** -0.5) @ key.mT).softmax(dim=-1) @ value
