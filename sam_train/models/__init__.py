"""The models, pure torch: ``build_model(name)`` for any of ``PRESETS``."""

from sam_train.models.presets import PRESETS, ImageModel, ModelConfig, build_model

__all__ = ["PRESETS", "ImageModel", "ModelConfig", "build_model"]
