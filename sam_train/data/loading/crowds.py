"""Regions of many things, which are no objects: they never train, and nothing is said of them in evaluation."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from sam_train.structures import Sample


def without_crowds(sample: Sample) -> Sample:
    """Return the sample without its crowds."""
    return sample if sample.crowd is None else sample.keep(~sample.crowd)


def with_crowds_ignored(sample: Sample) -> Sample:
    """Return the sample without its crowds, whose pixels are ignored where they belong to no other object."""
    if sample.crowd is None or not sample.crowd.any():
        return sample
    things = without_crowds(sample)
    ignore = _covered(sample.keep(sample.crowd)) & ~_covered(things)
    return replace(things, ignore=ignore if sample.ignore is None else ignore | sample.ignore)


def _covered(sample: Sample) -> Bool[Tensor, "h w"]:
    covered = torch.zeros(sample.size, dtype=torch.bool)
    for mask in sample.each_mask():
        covered |= mask
    return covered
