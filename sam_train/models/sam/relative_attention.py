"""Attention with decomposed relative positions, without a tensor of keys times queries.

The score of query i and key j has rows[i, row of j] + columns[i, column of j] added to it (Li et al., "MViTv2", 2022,
section 4.1). Written out for all i and j, this bias takes 805 MB in each global layer of ViT-B at 1024 pixels, and
several times as much with gradients. Both forms here compute the same function without it.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_SCORES = 2**20  # computed at once: 4 MB in float32 stay in a core's cache; fastest of 2**19 to 2**23


def attend(
    q: Float[Tensor, "N L c"],
    k: Float[Tensor, "N L c"],
    v: Float[Tensor, "N L c"],
    rows: Float[Tensor, "N L h"],
    columns: Float[Tensor, "N L w"],
) -> Float[Tensor, "N L c"]:
    """Attend in each of N heads over its own grid of h by w = L positions.

    Args:
        q: Queries, already scaled.
        k: Keys.
        v: Values.
        rows: Per query, added to the scores of the keys in each row.
        columns: Per query, added to the scores of the keys in each column.
    """
    # Fused kernels for accelerators know no bias of this shape; a compiler would unroll the chunks.
    is_eager_on_cpu = q.device.type == "cpu" and not torch.compiler.is_compiling()
    return (attend_in_chunks if is_eager_on_cpu else attend_through_channels)(q, k, v, rows, columns)


def attend_through_channels(
    q: Float[Tensor, "N L c"],
    k: Float[Tensor, "N L c"],
    v: Float[Tensor, "N L c"],
    rows: Float[Tensor, "N L h"],
    columns: Float[Tensor, "N L w"],
) -> Float[Tensor, "N L c"]:
    """Compute :func:`attend` with kernels that take no bias: the bias becomes channels of queries and keys.

    It is itself a dot product, of [rows[i], columns[i]] with the one-hot row and column of j.
    """
    height, width = rows.shape[-1], columns.shape[-1]
    of_row, of_column = (_identity(size, k) for size in (height, width))
    # Flash attention needs q, k and v of one width, fused kernels a multiple of 8; channels of zeros change nothing.
    padding = -(q.shape[-1] + height + width) % 8
    place = torch.cat([of_row[:, None].expand(-1, width, -1), of_column.expand(height, -1, -1)], dim=-1).flatten(0, 1)
    place = F.pad(place, (0, padding))
    wide_q = torch.cat([q, rows, columns, q.new_zeros(*q.shape[:2], padding)], dim=-1)
    wide_k = torch.cat([k, place.expand(k.shape[0], -1, -1)], dim=-1)
    wide_v = F.pad(v, (0, height + width + padding))
    out = F.scaled_dot_product_attention(wide_q[None], wide_k[None], wide_v[None], scale=1.0)
    return out[0, ..., : v.shape[-1]]


def _identity(size: int, like: Tensor) -> Float[Tensor, "{size} {size}"]:
    places = torch.arange(size, device=like.device)
    return (places[:, None] == places).to(like.dtype)  # torch.eye, which not every runtime has


def attend_in_chunks(
    q: Float[Tensor, "N L c"],
    k: Float[Tensor, "N L c"],
    v: Float[Tensor, "N L c"],
    rows: Float[Tensor, "N L h"],
    columns: Float[Tensor, "N L w"],
) -> Float[Tensor, "N L c"]:
    """Compute :func:`attend` for a few heads, or a few queries of one head, at once; backward repeats the scores."""
    length = q.shape[1]
    num_heads, num_queries = max(MAX_SCORES // length**2, 1), min(max(MAX_SCORES // length, 1), length)
    # Layers before the first that trains need no gradient, and must not keep anything for one.
    trains = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v, rows, columns))
    run = partial(checkpoint, _attend, use_reentrant=False, preserve_rng_state=False) if trains else _attend
    heads = []
    for of_queries in zip(*(tensor.split(num_heads) for tensor in (q, rows, columns, k, v)), strict=True):
        parts = zip(*(tensor.split(num_queries, dim=1) for tensor in of_queries[:3]), strict=True)
        heads.append(torch.cat([run(*part, *of_queries[3:]) for part in parts], dim=1))
    return torch.cat(heads)


def _attend(
    q: Float[Tensor, "N Q c"],
    rows: Float[Tensor, "N Q h"],
    columns: Float[Tensor, "N Q w"],
    k: Float[Tensor, "N L c"],
    v: Float[Tensor, "N L c"],
) -> Float[Tensor, "N Q c"]:
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(2)
    return torch.baddbmm(bias, q, k.transpose(1, 2)).softmax(dim=-1) @ v
