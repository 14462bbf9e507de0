"""SAM in ``transformers``: names, config.json and preprocessing. The image encoder declares its own part."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sam_train.models.prompt_encoder import MASK_CHANNELS
from sam_train.models.sam.sam import Sam

SAM_RENAMES: Mapping[str, str | tuple[str, ...]] = MappingProxyType(
    {
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
            "shared_image_embedding.positional_embedding",
            "prompt_encoder.shared_embedding.positional_embedding",
        ),
        "prompt_encoder.point_embeddings": "prompt_encoder.point_embed",
        "prompt_encoder.mask_downscaling.0": "prompt_encoder.mask_embed.conv1",
        "prompt_encoder.mask_downscaling.1": "prompt_encoder.mask_embed.layer_norm1",
        "prompt_encoder.mask_downscaling.3": "prompt_encoder.mask_embed.conv2",
        "prompt_encoder.mask_downscaling.4": "prompt_encoder.mask_embed.layer_norm2",
        "prompt_encoder.mask_downscaling.6": "prompt_encoder.mask_embed.conv3",
        "mask_decoder.transformer.layers.{}.norm{}": "mask_decoder.transformer.layers.{}.layer_norm{}",
        "mask_decoder.transformer.norm_final_attn": "mask_decoder.transformer.layer_norm_final_attn",
        "mask_decoder.output_upscaling.0": "mask_decoder.upscale_conv1",
        "mask_decoder.output_upscaling.1": "mask_decoder.upscale_layer_norm",
        "mask_decoder.output_upscaling.3": "mask_decoder.upscale_conv2",
        "mask_decoder.output_hypernetworks_mlps.{}.layers.0": "mask_decoder.output_hypernetworks_mlps.{}.proj_in",
        "mask_decoder.output_hypernetworks_mlps.{}.layers.1": "mask_decoder.output_hypernetworks_mlps.{}.layers.0",
        "mask_decoder.output_hypernetworks_mlps.{}.layers.2": "mask_decoder.output_hypernetworks_mlps.{}.proj_out",
        "mask_decoder.iou_prediction_head.layers.0": "mask_decoder.iou_prediction_head.proj_in",
        "mask_decoder.iou_prediction_head.layers.1": "mask_decoder.iou_prediction_head.layers.0",
        "mask_decoder.iou_prediction_head.layers.2": "mask_decoder.iou_prediction_head.proj_out",
    }
)


def sam_config(model: Sam, vision_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all sizes of the model, as ``transformers.SamConfig`` names them.

    Args:
        model: The model.
        vision_config: The image encoder's own entries.
    """
    config = model.config
    vision = {
        "model_type": "sam_vision_model",
        "output_channels": config.dim,
        "num_pos_feats": config.dim // 2,
        **vision_config,
    }
    prompt = {
        "model_type": "sam_prompt_encoder",
        "hidden_size": config.dim,
        "image_size": model.preprocessing.image_size,
        "patch_size": config.encoder.stride,
        "mask_input_channels": MASK_CHANNELS,
        "num_point_embeddings": len(model.prompt_encoder.point_embeddings),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    }
    decoder = {
        "model_type": "sam_mask_decoder",
        "hidden_size": config.dim,
        "hidden_act": "relu",
        "mlp_dim": config.decoder_mlp_dim,
        "num_hidden_layers": config.decoder_depth,
        "num_attention_heads": config.decoder_heads,
        "attention_downsample_rate": 2,
        "num_multimask_outputs": model.mask_decoder.num_mask_tokens - 1,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": model.mask_decoder.iou_prediction_head.layers[0].out_features,
        # transformers' default is 1e-6; the official decoder has torch's 1e-5, and 1e-5 makes the outputs equal.
        "layer_norm_eps": 1e-5,
    }
    return {
        "architectures": ["SamModel"],
        "model_type": "sam",
        "vision_config": vision,
        "prompt_encoder_config": prompt,
        "mask_decoder_config": decoder,
    }


def sam_processors(model: Sam) -> dict[str, dict[str, Any]]:
    """Return the model's preprocessing, as ``transformers.SamImageProcessor`` reads it."""
    preprocessing = model.preprocessing
    side, mask_side = preprocessing.image_size, model.prompt_encoder.mask_size[0]
    config = {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": side},
        "mask_size": {"longest_edge": mask_side},
        "resample": 2,  # Pillow's number for bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in preprocessing.mean],
        "image_std": [value / 255 for value in preprocessing.std],
        "do_pad": True,
        "pad_size": {"height": side, "width": side},
        "mask_pad_size": {"height": mask_side, "width": mask_side},
    }
    return {"preprocessor_config.json": config}
