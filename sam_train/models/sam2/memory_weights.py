"""The weights of SAM 2's memory, which checkpoints hold beside the image model.

Images need none of them (:mod:`sam_train.models.unused_weights`). The modules of a video model take their place.
"""

from __future__ import annotations

from typing import Literal

from sam_train.models.unused_weights import Shapes, linear_shapes

Version = Literal["2.0", "2.1"]

NUM_MEMORIES = 7  # frames in a memory bank, each with a learned embedding of its age
MEMORY_DIM = 64
ATTENTION_DEPTH = 4
ATTENTION_MLP_DIM = 2048
FUSER_DEPTH = 2


def memory_shapes(dim: int, version: Version) -> Shapes:
    """Yield names and shapes of the memory's weights in official checkpoints of SAM 2 models with ``dim`` channels."""
    yield "maskmem_tpos_enc", (NUM_MEMORIES, 1, 1, MEMORY_DIM)
    yield "no_mem_pos_enc", (1, 1, dim)
    yield "no_obj_ptr", (1, dim)
    if version == "2.1":
        yield "no_obj_embed_spatial", (1, MEMORY_DIM)
        yield from linear_shapes("obj_ptr_tpos_proj", MEMORY_DIM, dim)
    yield from linear_shapes("mask_downsample", 1, 1, 4, 4)
    for index in range(3):
        yield from linear_shapes(f"obj_ptr_proj.layers.{index}", dim, dim)
    for index in range(ATTENTION_DEPTH):
        yield from _attention_block(f"memory_attention.layers.{index}", dim)
    yield from linear_shapes("memory_attention.norm", dim)
    yield from _encoder("memory_encoder", dim)


def _attention_block(name: str, dim: int) -> Shapes:
    for attention, source in (("self_attn", dim), ("cross_attn_image", MEMORY_DIM)):
        yield from linear_shapes(f"{name}.{attention}.q_proj", dim, dim)
        yield from linear_shapes(f"{name}.{attention}.k_proj", dim, source)
        yield from linear_shapes(f"{name}.{attention}.v_proj", dim, source)
        yield from linear_shapes(f"{name}.{attention}.out_proj", dim, dim)
    yield from linear_shapes(f"{name}.linear1", ATTENTION_MLP_DIM, dim)
    yield from linear_shapes(f"{name}.linear2", dim, ATTENTION_MLP_DIM)
    for index in (1, 2, 3):
        yield from linear_shapes(f"{name}.norm{index}", dim)


def _encoder(name: str, dim: int) -> Shapes:
    downsampler, channels = f"{name}.mask_downsampler.encoder", (1, 4, 16, 64, 256)
    for index in range(4):
        yield from linear_shapes(f"{downsampler}.{3 * index}", channels[index + 1], channels[index], 3, 3)
        yield from linear_shapes(f"{downsampler}.{3 * index + 1}", channels[index + 1])
    yield from linear_shapes(f"{downsampler}.12", dim, channels[-1], 1, 1)
    yield from linear_shapes(f"{name}.pix_feat_proj", dim, dim, 1, 1)
    for index in range(FUSER_DEPTH):
        block = f"{name}.fuser.layers.{index}"
        yield f"{block}.gamma", (dim,)
        yield from linear_shapes(f"{block}.dwconv", dim, 1, 7, 7)
        yield from linear_shapes(f"{block}.norm", dim)
        yield from linear_shapes(f"{block}.pwconv1", 4 * dim, dim)
        yield from linear_shapes(f"{block}.pwconv2", dim, 4 * dim)
    yield from linear_shapes(f"{name}.out_proj", MEMORY_DIM, dim, 1, 1)
