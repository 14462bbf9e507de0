"""SAM 2 in ``transformers``: names, config.json and preprocessing. The image encoder declares its own part.

``Sam2VideoModel`` is the whole model, and what the hub has. ``Sam2Model`` is the part that images need; it opens
folders of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sam_train.checkpoints.huggingface_sam import SAM_RENAMES
from sam_train.models.prompt_encoder import MASK_CHANNELS
from sam_train.models.sam2.mask_decoder import STABILITY_DELTA, STABILITY_THRESHOLD
from sam_train.models.sam2.memory import MEMORY_DIM
from sam_train.models.sam2.memory_attention import DEPTH, MLP_DIM
from sam_train.models.sam2.memory_bank import NUM_MEMORIES
from sam_train.models.sam2.memory_encoder import FUSER_DEPTH
from sam_train.models.sam2.sam2 import Sam2

_LAYER, _THEIR_LAYER = "sam_mask_decoder.transformer.layers.{}", "mask_decoder.transformer.layers.{}"
_FUSER, _THEIR_FUSER = "memory_encoder.fuser.layers.{}", "memory_encoder.memory_fuser.layers.{}"

SAM2_RENAMES: Mapping[str, str | tuple[str, ...]] = MappingProxyType(
    {
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
        # The layers shared with SAM have SAM's names.
        **{f"sam_{ours}": theirs for ours, theirs in SAM_RENAMES.items()},
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


def sam2_config(model: Sam2, vision_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all sizes of the image model, as ``transformers.Sam2Config`` names them.

    Args:
        model: The model.
        vision_config: The image encoder's own entries.
    """
    return {
        "architectures": ["Sam2Model"],
        "model_type": "sam2",
        "vision_config": {"model_type": "sam2_vision_model", "fpn_hidden_size": model.config.dim, **vision_config},
        "prompt_encoder_config": {"model_type": "sam2_prompt_encoder", **_prompt_encoder(model)},
        "mask_decoder_config": {"model_type": "sam2_mask_decoder", **_mask_decoder(model)},
    }


def sam2_whole_config(model: Sam2, vision_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all sizes of the model and, if it has one, of its memory, as ``transformers.Sam2VideoConfig`` names them.

    How a video is walked through (which prompts ask for several masks, how many frames are looked back on) is left to
    the defaults there, which are those of the released models.
    """
    image_config = sam2_config(model, vision_config)
    if model.config.version is None:
        return image_config
    dim, size, is_21 = model.config.dim, model.preprocessing.image_size, model.config.version == "2.1"
    return {
        "architectures": ["Sam2VideoModel"],
        "model_type": "sam2_video",
        "vision_config": image_config["vision_config"],
        "prompt_encoder_config": {"model_type": "sam2_video_prompt_encoder", **_prompt_encoder(model)},
        "mask_decoder_config": {"model_type": "sam2_video_mask_decoder", **_mask_decoder(model)},
        "image_size": size,
        "num_maskmem": NUM_MEMORIES,
        "enable_occlusion_spatial_embedding": is_21,
        "enable_temporal_pos_encoding_for_object_pointers": is_21,
        "memory_attention_hidden_size": dim,
        "memory_attention_num_layers": DEPTH,
        "memory_attention_feed_forward_hidden_size": MLP_DIM,
        "memory_attention_rope_feat_sizes": [size // model.config.encoder.stride] * 2,
        "memory_encoder_hidden_size": dim,
        "memory_encoder_output_channels": MEMORY_DIM,
        "mask_downsampler_embed_dim": dim,
        "memory_fuser_num_layers": FUSER_DEPTH,
        "memory_fuser_embed_dim": dim,
        "memory_fuser_intermediate_dim": 4 * dim,
    }


def _prompt_encoder(model: Sam2) -> dict[str, Any]:
    return {
        "hidden_size": model.config.dim,
        "image_size": model.preprocessing.image_size,
        "patch_size": model.config.encoder.stride,
        "mask_input_channels": MASK_CHANNELS,
        "num_point_embeddings": len(model.sam_prompt_encoder.point_embeddings),
    }


def _mask_decoder(model: Sam2) -> dict[str, Any]:
    config, decoder = model.config, model.sam_mask_decoder
    return {
        "hidden_size": config.dim,
        "mlp_dim": config.decoder_mlp_dim,
        "num_hidden_layers": config.decoder_depth,
        "num_attention_heads": config.decoder_heads,
        "num_multimask_outputs": decoder.num_mask_tokens - 1,
        "iou_head_hidden_dim": decoder.iou_prediction_head.layers[0].out_features,
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": STABILITY_DELTA,
        "dynamic_multimask_stability_thresh": STABILITY_THRESHOLD,
    }


def sam2_processors(model: Sam2) -> dict[str, dict[str, Any]]:
    """Return the model's preprocessing, as ``transformers`` reads it for images and, with a memory, for videos."""
    preprocessing, mask_side = model.preprocessing, model.sam_prompt_encoder.mask_size[0]
    side = {"height": preprocessing.image_size, "width": preprocessing.image_size}
    shared = {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": side,
        "resample": 2,  # Pillow's number for bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in preprocessing.mean],
        "image_std": [value / 255 for value in preprocessing.std],
    }
    mask_size = {"height": mask_side, "width": mask_side}
    files = {
        "preprocessor_config.json": {"image_processor_type": "Sam2ImageProcessor", **shared, "mask_size": mask_size}
    }
    if model.config.version:
        files["video_preprocessor_config.json"] = {"video_processor_type": "Sam2VideoVideoProcessor", **shared}
    return files
