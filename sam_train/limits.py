"""Which values a setting may have. Imports nothing heavy, so that a bad number is told at once.

The command line looks here before anything else is imported; the settings' own classes look here when they are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sam_train.errors import InputError


class Limit(NamedTuple):
    """What a value must be.

    Attributes:
        words: For people.
        allows: Whether a value is within it.
    """

    words: str
    allows: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int, most: float = math.inf) -> Limit:
    """A whole number from ``least`` to ``most``."""
    words = f"a whole number, at least {least}" if math.isinf(most) else f"a whole number from {least} to {most}"
    return Limit(words, lambda value: _is_whole(value) and least <= value <= most)


def number(words: str, allows: Callable[[float], bool]) -> Limit:
    """A finite number for which ``allows`` holds, in words."""
    return Limit(f"a number {words}", lambda value: _is_number(value) and allows(value))


def one_of(*choices: Any) -> Limit:
    """One of some values."""
    return Limit(f"one of {', '.join(map(str, choices))}", lambda value: value in choices)


def either(*limits: Limit) -> Limit:
    """Whatever any of some limits allows."""
    words = " or ".join(limit.words for limit in limits)
    return Limit(words, lambda value: any(limit.allows(value) for limit in limits))


NOTHING = Limit("null", lambda value: value is None)
YES_OR_NO = Limit("true or false", lambda value: isinstance(value, bool))
POSITIVE = number("above 0", lambda value: value > 0)
NOT_NEGATIVE = number("of at least 0", lambda value: value >= 0)
SHARE = number("from 0 to 1", lambda value: 0 <= value <= 1)
BELOW_ONE = number("from 0 to below 1", lambda value: 0 <= value < 1)
_AUTO = one_of("auto")

LIMITS: Mapping[str, Mapping[str, Limit]] = {
    "": {
        "seed": whole(0),
        "number": whole(1, 400),
        "devices": whole(1),
        "accelerator": one_of("auto", "cpu", "gpu", "cuda"),
        "min_score": SHARE,
        "detector_threshold": SHARE,
        "image_size": either(whole(16), NOTHING),
        "steps": whole(1),
        "port": whole(0, 65535),
    },
    "data": {"on_error": one_of("stop", "skip")},
    "model": {"image_size": either(whole(16), NOTHING)},
    "tuning": {
        "encoder": one_of("frozen", "lora", "full"),
        "last_blocks": either(whole(1), NOTHING),
        "checkpoint_activations": YES_OR_NO,
        "prompt_encoder": YES_OR_NO,
        "mask_decoder": YES_OR_NO,
        "memory": one_of("frozen", "lora", "full"),
        "rank": whole(1),
        "alpha": either(POSITIVE, NOTHING),
        "dropout": BELOW_ONE,
    },
    "prompts": {
        "box": NOT_NEGATIVE,
        "point": NOT_NEGATIVE,
        "center": NOT_NEGATIVE,
        "mask": NOT_NEGATIVE,
        "given": NOT_NEGATIVE,
        "box_noise": NOT_NEGATIVE,
        "corrections": whole(0, 19),
        "correct_at": one_of("random", "center"),
    },
    "loss": {
        "mask": NOT_NEGATIVE,
        "dice": NOT_NEGATIVE,
        "iou": NOT_NEGATIVE,
        "object_score": NOT_NEGATIVE,
        "focal_gamma": NOT_NEGATIVE,
        "iou_error": one_of("l1", "l2"),
        "iou_of": one_of("all", "best"),
        "resolution": whole(1),
    },
    "optim": {
        "lr": POSITIVE,
        "weight_decay": NOT_NEGATIVE,
        "warmup": BELOW_ONE,
        "final_lr": SHARE,
        "layer_decay": number("above 0 and at most 1", lambda value: 0 < value <= 1),
    },
    "prompter": {"lr": POSITIVE, "weight_decay": NOT_NEGATIVE},
    "loader": {
        "batch_size": whole(1),
        "max_objects": either(whole(1), NOTHING),
        "micro_batch": either(whole(1), _AUTO, NOTHING),
        "micro_objects": either(whole(1), _AUTO, NOTHING),
        "min_area": NOT_NEGATIVE,
        "max_val_images": either(whole(1), NOTHING),
        "num_workers": either(whole(0), NOTHING),
    },
    "loader.augmentation": {"flip": SHARE, "rotate": NOT_NEGATIVE, "shear": NOT_NEGATIVE, "color": SHARE},
    "trainer": {
        "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
        "devices": Limit(
            "auto, a number of devices or a list of their numbers",
            lambda value: value == "auto" or (_is_whole(value) and value > 0) or isinstance(value, (list, tuple)),
        ),
        "num_nodes": whole(1),
        "precision": one_of("auto", "32-true", "bf16-mixed", "16-mixed", "64-true", "32", 32, "16-true", "bf16-true"),
        "max_steps": either(whole(1), one_of(-1), NOTHING),
        "max_epochs": either(whole(1), one_of(-1), NOTHING),
        "val_check_interval": either(whole(1), SHARE, NOTHING),
        "accumulate_grad_batches": whole(1),
        "gradient_clip_val": either(NOT_NEGATIVE, NOTHING),
        "log_every_n_steps": whole(1),
    },
    "task": {
        "num_frames": whole(1),
        "max_stride": whole(1),
        "reverse": SHARE,
        "mask": NOT_NEGATIVE,
        "point": NOT_NEGATIVE,
        "box": NOT_NEGATIVE,
        "conditioning": whole(1),
        "corrected": whole(0),
        "corrections": whole(0),
        "checkpoint_activations": YES_OR_NO,
        "max_val_clips": either(whole(1), NOTHING),
        "max_val_frames": either(whole(2), NOTHING),
    },
    "cache": {"views": whole(1), "dtype": one_of("bfloat16", "float32")},
    "tile": {"side": either(whole(16), NOTHING), "overlap": whole(0), "threshold": SHARE},
    "clean": {"max_hole_area": NOT_NEGATIVE, "max_sprinkle_area": NOT_NEGATIVE, "non_overlapping": YES_OR_NO},
    "grid": {
        "points_per_side": whole(1),
        "points_per_batch": whole(1),
        "stability_score_offset": NOT_NEGATIVE,
        "box_nms_thresh": SHARE,
        "crop_n_layers": whole(0, 6),
        "crop_nms_thresh": SHARE,
        "crop_overlap_ratio": BELOW_ONE,
        "crop_n_points_downscale_factor": whole(1),
        "min_mask_region_area": whole(0),
        "multimask_output": YES_OR_NO,
        "use_m2m": YES_OR_NO,
    },
    "evaluation": {
        "split": one_of("train", "val", "test"),
        "clicks": whole(1, 20),
        "overlays": whole(0),
        "pictures": whole(0),
        "controls": YES_OR_NO,
        "coco": YES_OR_NO,
        "forgetting": whole(0),
        "corrected_frames": whole(0),
    },
}
"""By part of a run's settings and name."""


def check_limits(part: str, values: Mapping[str, Any]) -> None:
    """Refuse settings beyond their limits.

    Args:
        part: Of a run's settings, such as ``optim``.
        values: By name; what has no limit is not looked at.

    Raises:
        InputError: If one is; names the setting, its value and what is possible.
    """
    for name, limit in LIMITS.get(part, {}).items():
        if name in values and not limit.allows(values[name]):
            found = "null" if values[name] is None else values[name]
            full = f"{part}.{name}" if part else name
            raise InputError(f"{full}={found}: expected {limit.words}")
