"""SAM 2 in ``transformers``: names. ``Sam2VideoModel`` has all of them, ``Sam2Model`` those that images need."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sam_train.checkpoints.huggingface_sam import SAM_RENAMES

_BLOCK, _THEIR_BLOCK = "image_encoder.trunk.blocks.{}", "vision_encoder.backbone.blocks.{}"
_LAYER, _THEIR_LAYER = "sam_mask_decoder.transformer.layers.{}", "mask_decoder.transformer.layers.{}"
_FUSER, _THEIR_FUSER = "memory_encoder.fuser.layers.{}", "memory_encoder.memory_fuser.layers.{}"

SAM2_RENAMES: Mapping[str, str | tuple[str, ...]] = MappingProxyType(
    {
        f"{_BLOCK}.norm{{}}": f"{_THEIR_BLOCK}.layer_norm{{}}",
        f"{_BLOCK}.mlp.layers.0": f"{_THEIR_BLOCK}.mlp.proj_in",
        f"{_BLOCK}.mlp.layers.1": f"{_THEIR_BLOCK}.mlp.proj_out",
        "image_encoder.trunk.patch_embed.proj": "vision_encoder.backbone.patch_embed.projection",
        "image_encoder.trunk": "vision_encoder.backbone",
        "image_encoder.neck.convs.{}.conv": "vision_encoder.neck.convs.{}",
        "sam_prompt_encoder.point_embeddings.{}.weight": "prompt_encoder.point_embed.weight[{}]",
        f"{_LAYER}.self_attn.out_proj": f"{_THEIR_LAYER}.self_attn.o_proj",
        f"{_LAYER}.cross_attn_token_to_image.out_proj": f"{_THEIR_LAYER}.cross_attn_token_to_image.o_proj",
        f"{_LAYER}.cross_attn_image_to_token.out_proj": f"{_THEIR_LAYER}.cross_attn_image_to_token.o_proj",
        f"{_LAYER}.mlp.layers.0": f"{_THEIR_LAYER}.mlp.proj_in",
        f"{_LAYER}.mlp.layers.1": f"{_THEIR_LAYER}.mlp.proj_out",
        "sam_mask_decoder.transformer.final_attn_token_to_image.out_proj": (
            "mask_decoder.transformer.final_attn_token_to_image.o_proj"
        ),
        "sam_mask_decoder.pred_obj_score_head.layers.0": "mask_decoder.pred_obj_score_head.proj_in",
        "sam_mask_decoder.pred_obj_score_head.layers.1": "mask_decoder.pred_obj_score_head.layers.0",
        "sam_mask_decoder.pred_obj_score_head.layers.2": "mask_decoder.pred_obj_score_head.proj_out",
        # What is SAM's has SAM's names.
        **{
            f"sam_{ours}": theirs
            for ours, theirs in SAM_RENAMES.items()
            if ours.startswith(("prompt_encoder.", "mask_decoder."))
        },
        "sam_prompt_encoder": "prompt_encoder",
        "sam_mask_decoder": "mask_decoder",
        "maskmem_tpos_enc": "memory_temporal_positional_encoding",
        "no_mem_embed": "no_memory_embedding",
        "no_mem_pos_enc": "no_memory_positional_encoding",
        "no_obj_ptr": "no_object_pointer",
        "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
        "obj_ptr_proj.layers.0": "object_pointer_proj.proj_in",
        "obj_ptr_proj.layers.1": "object_pointer_proj.layers.0",
        "obj_ptr_proj.layers.2": "object_pointer_proj.proj_out",
        "obj_ptr_tpos_proj": "temporal_positional_encoding_projection_layer",
        "memory_attention.layers.{}.self_attn.out_proj": "memory_attention.layers.{}.self_attn.o_proj",
        "memory_attention.layers.{}.cross_attn_image.out_proj": "memory_attention.layers.{}.cross_attn_image.o_proj",
        "memory_attention.layers.{}.norm{}": "memory_attention.layers.{}.layer_norm{}",
        "memory_attention.norm": "memory_attention.layer_norm",
        **{
            f"memory_encoder.mask_downsampler.encoder.{3 * index + offset}": (
                f"memory_encoder.mask_downsampler.layers.{index}.{part}"
            )
            for index in range(4)
            for offset, part in enumerate(("conv", "layer_norm"))
        },
        "memory_encoder.mask_downsampler.encoder.12": "memory_encoder.mask_downsampler.final_conv",
        "memory_encoder.pix_feat_proj": "memory_encoder.feature_projection",
        f"{_FUSER}.gamma": f"{_THEIR_FUSER}.scale",
        f"{_FUSER}.dwconv": f"{_THEIR_FUSER}.depthwise_conv",
        f"{_FUSER}.norm": f"{_THEIR_FUSER}.layer_norm",
        f"{_FUSER}.pwconv{{}}": f"{_THEIR_FUSER}.pointwise_conv{{}}",
        "memory_encoder.out_proj": "memory_encoder.projection",
    }
)
