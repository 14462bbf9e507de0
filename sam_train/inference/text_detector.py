"""Boxes of what a phrase names, by a detector that reads text (Grounding DINO, OWL-ViT), through ``transformers``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from sam_train.data.sources.prompt_files import GivenObject
from sam_train.errors import InputError


class TextDetector:
    """Finds the boxes of what phrases name. It is read when the first image is looked at.

    Nothing of a detector's repository is run, and of its weights only safetensors are read.

    Args:
        detector: A folder or hub id of a model for zero-shot object detection of ``transformers``.
        phrases: What to look for, each on its own, such as ``a cell.``; Grounding DINO was trained on such ends.
        threshold: Boxes of a lower score are left out.
        device: Of the detector; by default the first GPU, or else the CPU.

    Raises:
        InputError: If ``transformers`` is not installed, or a phrase is empty.
    """

    def __init__(
        self, detector: str, phrases: Sequence[str], threshold: float, device: torch.device | str | None = None
    ) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise InputError("text=: boxes by text need transformers; install it: pip install 'sam-train[text]'")
        if not phrases or not all(phrase.strip() for phrase in phrases):
            raise InputError("text=: an empty phrase; say what to look for, as text='a cell.'")
        self.detector = detector
        self.phrases = [*phrases]
        self.threshold = threshold
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def open(self) -> None:
        """Read the detector, which is otherwise read when it is first asked.

        Raises:
            InputError: If it cannot be read.
        """
        _ = self._pipeline

    def find(self, pixels: UInt8[Tensor, "3 h w"]) -> list[GivenObject]:
        """Return a box with phrase and score for each object of an image that the detector sees.

        Raises:
            InputError: If the detector cannot be read.
        """
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        width, height = image.size
        found = self._pipeline(image, candidate_labels=self.phrases, threshold=self.threshold)
        given = []
        for one in found:
            x0, y0, x1, y1 = (one["box"][name] for name in ("xmin", "ymin", "xmax", "ymax"))
            box = (min(max(x0, 0), width), min(max(y0, 0), height), min(max(x1, 0), width), min(max(y1, 0), height))
            if box[0] < box[2] and box[1] < box[3]:
                given.append(GivenObject(box, category=one["label"], score=one["score"]))
        return given

    @cached_property
    def _pipeline(self) -> Any:
        from transformers import pipeline

        try:
            return pipeline(
                "zero-shot-object-detection",
                model=self.detector,
                device=self.device,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"detector={self.detector}: cannot be read ({reason}); give the folder or hub id of a model for "
                "zero-shot object detection with model.safetensors, such as IDEA-Research/grounding-dino-tiny; "
                "without a network, the folder of a downloaded one"
            ) from error
