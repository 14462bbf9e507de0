"""Seeds that depend on names alone, so that randomness repeats in any process, worker or order."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sam_train.structures import NUM_DRAWS


def seed_of(*parts: object) -> int:
    """Return a seed of 63 bits from anything that prints the same everywhere."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_of(*parts: object) -> torch.Generator:
    """Return a generator seeded by :func:`seed_of`."""
    return torch.Generator().manual_seed(seed_of(*parts))


def object_draws(sample_id: str, value: Int[Tensor, "P"], *parts: object) -> Float[Tensor, "P R"]:
    """Return uniform numbers of each object: a function of its image's id, its value there and ``parts`` alone."""
    rows = [
        torch.rand(NUM_DRAWS, generator=generator_of("draws", sample_id, number, *parts)) for number in value.tolist()
    ]
    return torch.stack(rows) if rows else torch.zeros(0, NUM_DRAWS)
