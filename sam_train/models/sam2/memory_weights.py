"""The weights of SAM 2's memory: what its checkpoints hold beyond the image model.

Images need none of them. They are kept by name and shape, so that a checkpoint loads strictly and is saved whole, and
they never train. The modules of the video model take their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

Version = Literal["2.0", "2.1"]

NUM_MEMORIES = 7  # frames a memory bank holds, and their learned times
MEMORY_DIM = 64
ATTENTION_DEPTH = 4
ATTENTION_MLP_DIM = 2048
FUSER_DEPTH = 2

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def memory_shapes(dim: int, version: Version) -> Shapes:
    """Names and shapes of the memory's weights in the official checkpoints of SAM 2 models with ``dim`` channels."""
    yield "maskmem_tpos_enc", (NUM_MEMORIES, 1, 1, MEMORY_DIM)
    yield "no_mem_pos_enc", (1, 1, dim)
    yield "no_obj_ptr", (1, dim)
    if version == "2.1":
        yield "no_obj_embed_spatial", (1, MEMORY_DIM)
        yield from _layer("obj_ptr_tpos_proj", MEMORY_DIM, dim)
    yield from _layer("mask_downsample", 1, 1, 4, 4)
    for index in range(3):
        yield from _layer(f"obj_ptr_proj.layers.{index}", dim, dim)
    for index in range(ATTENTION_DEPTH):
        yield from _attention_block(f"memory_attention.layers.{index}", dim)
    yield from _layer("memory_attention.norm", dim)
    yield from _encoder("memory_encoder", dim)


def _layer(name: str, out: int, *rest: int) -> Shapes:
    yield f"{name}.weight", (out, *rest)
    yield f"{name}.bias", (out,)


def _attention_block(name: str, dim: int) -> Shapes:
    for attention, source in (("self_attn", dim), ("cross_attn_image", MEMORY_DIM)):
        yield from _layer(f"{name}.{attention}.q_proj", dim, dim)
        yield from _layer(f"{name}.{attention}.k_proj", dim, source)
        yield from _layer(f"{name}.{attention}.v_proj", dim, source)
        yield from _layer(f"{name}.{attention}.out_proj", dim, dim)
    yield from _layer(f"{name}.linear1", ATTENTION_MLP_DIM, dim)
    yield from _layer(f"{name}.linear2", dim, ATTENTION_MLP_DIM)
    for index in (1, 2, 3):
        yield from _layer(f"{name}.norm{index}", dim)


def _encoder(name: str, dim: int) -> Shapes:
    channels = (1, 4, 16, 64, 256)
    for index in range(4):
        yield from _layer(f"{name}.mask_downsampler.encoder.{3 * index}", channels[index + 1], channels[index], 3, 3)
        yield from _layer(f"{name}.mask_downsampler.encoder.{3 * index + 1}", channels[index + 1])
    yield from _layer(f"{name}.mask_downsampler.encoder.12", dim, channels[-1], 1, 1)
    yield from _layer(f"{name}.pix_feat_proj", dim, dim, 1, 1)
    for index in range(FUSER_DEPTH):
        block = f"{name}.fuser.layers.{index}"
        yield f"{block}.gamma", (dim,)
        yield from _layer(f"{block}.dwconv", dim, 1, 7, 7)
        yield from _layer(f"{block}.norm", dim)
        yield from _layer(f"{block}.pwconv1", 4 * dim, dim)
        yield from _layer(f"{block}.pwconv2", dim, 4 * dim)
    yield from _layer(f"{name}.out_proj", MEMORY_DIM, dim, 1, 1)


def hold_memory_weights(model: nn.Module, dim: int, version: Version) -> None:
    """Give ``model`` parameters of these names, zero until a checkpoint is loaded and without gradient."""
    for name, shape in memory_shapes(dim, version):
        *path, leaf = name.split(".")
        module = model
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, nn.Parameter(torch.zeros(shape), requires_grad=False))
