"""Files of the family that hold no whole model: what they are and what to do about them."""

from __future__ import annotations

import re
from collections.abc import Collection

_ADAPTERS = re.compile(r"(?:^|\.)(?:lora_(?:A|B|embedding_A|embedding_B)|w_[ab]_\d+)(?:\.|$)")
_HIGH_QUALITY = re.compile(r"(?:^|\.)(?:sam_)?mask_decoder\.(?:hf_token|hq_token)\.")
_ENCODER = re.compile(r"(?:^|\.)(?:image_encoder|vision_encoder)\.")
_DECODER = re.compile(r"(?:^|\.)(?:iou_token|mask_tokens)\.weight$")

_MERGE = (
    "with PEFT: merged = PeftModel.from_pretrained(base, adapters).merge_and_unload(); merged.save_pretrained(folder); "
    "and give that folder"
)


def recognize(names: Collection[str]) -> str | None:
    """Return in words what a file with tensors of these names is and what to do; None if it is not recognized."""

    def any_matches(pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(name) for name in names)

    if any_matches(_ADAPTERS):
        if any_matches(_ENCODER) and any(".base_layer." in name for name in names):
            return f"a model with LoRA adapters beside its weights. Merge them, {_MERGE}"
        return f"LoRA adapters without the model that they belong to. Merge them into that model, {_MERGE}"
    if any_matches(_HIGH_QUALITY):
        return (
            "SAM-HQ, which has a high-quality token and layers of its own that no model here has. The rest of it is "
            "the released SAM, unchanged: give the official weights of that size instead"
        )
    if any_matches(_DECODER) and not any_matches(_ENCODER):
        return (
            "a mask decoder without an image encoder. Put its tensors into the weights of the model that it was "
            "trained on: whole = torch.load(base); whole.update(torch.load(decoder)); torch.save(whole, path), with "
            "names as in base (of SAM 2, base['model']); and give that path"
        )
    return None
