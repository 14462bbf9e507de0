"""What was saved for other programs is opened by them again and asked for the objects of an image, as the model is."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam_train.checkpoints import load_checkpoint, save_checkpoint
from sam_train.export.agreement import FAULT, Agreement, Scene, agreement_of
from sam_train.models import ImageModel
from sam_train.models.sam.sam import Sam
from sam_train.models.sam2.memory_bank import INFERENCE, Course, MemoryBank
from sam_train.models.sam2.sam2 import Sam2
from sam_train.models.sam2.tracking import empty_where_absent
from sam_train.structures import PointLabel, Prompts


@dataclass(frozen=True)
class Check:
    """An export that was tried out.

    Attributes:
        how: What opened it; or why nothing did.
        agreement: How its masks compare with the model's; None if nothing opened it.
    """

    how: str
    agreement: Agreement | None = None

    def __str__(self) -> str:
        if self.agreement is None:
            return f"not checked: {self.how}"
        told = f"its masks have an IoU of {self.agreement.iou:.4f} with the model's own"
        return f"{self.how}, {told}; logits differ by at most {self.agreement.difference:.2g}"


@torch.no_grad()
def check_meta(model: ImageModel, file: Path) -> list[Check]:
    """Read an official checkpoint back by this package's reader, which knows every name and shape of the official code.

    Raises:
        InputError: If its masks are not the model's.
    """
    again = model.config.build()
    load_checkpoint(again, file)
    scene = Scene.of(model)
    logits = [[one.logits for one in scene.found_by(one_model)] for one_model in (again.eval(), model)]
    check = Check("read again by the strict reader here (the official code was not run)", agreement_of(*logits))
    return [_required(check, file)]


@torch.no_grad()
def check_huggingface(model: ImageModel, folder: Path) -> list[Check]:
    """Open a folder in ``transformers``, as the image model and, where there is a memory, as the video model.

    Raises:
        InputError: If the masks are not the model's.
    """
    if find_spec("transformers") is None:
        return [Check("transformers is not installed")]
    from transformers import Sam2VideoModel, Sam2VideoProcessor

    with _quiet():
        checks = [_check_images(model, _image_class(model).from_pretrained(folder), folder, "opened as transformers.")]
        if isinstance(model, Sam2) and model.has_memory():
            Sam2VideoProcessor.from_pretrained(folder)  # its files are there
            found = agreement_of(*_followed(model, Sam2VideoModel.from_pretrained(folder).eval()))
            checks.append(_required(Check("opened as transformers.Sam2VideoModel, on two frames", found), folder))
    return checks


@torch.no_grad()
def check_peft(base: ImageModel, model: ImageModel, folder: Path) -> list[Check]:
    """Have PEFT put adapters on the untuned model in ``transformers``.

    Args:
        base: The untuned model.
        model: The tuned one, adapters merged.
        folder: The adapters.

    Raises:
        InputError: If the masks are not the model's.
    """
    if find_spec("transformers") is None:
        return [Check("transformers is not installed")]
    from peft import PeftModel

    with tempfile.TemporaryDirectory() as temporary, _quiet():
        save_checkpoint(base, temporary, "huggingface")
        untuned = _image_class(model).from_pretrained(temporary)
        theirs = PeftModel.from_pretrained(untuned, str(folder))
        return [_check_images(model, theirs, folder, "put by PEFT on transformers.")]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the bars and warnings of libraries to themselves: of PEFT, and of a video's folder opened for images."""
    from transformers.utils import logging

    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()


def _image_class(model: ImageModel) -> Any:
    import transformers

    return transformers.SamModel if isinstance(model, Sam) else transformers.Sam2Model


def _check_images(model: ImageModel, theirs: Any, folder: Path, how: str) -> Check:
    scene = Scene.of(model)
    images = scene.normalized(model)
    found = [theirs.eval()(pixel_values=images, **_said(one)).pred_masks[0] for one in scene.prompts]
    agreement = agreement_of(found, [one.logits for one in scene.found_by(model)])
    return _required(Check(f"{how}{_image_class(model).__name__}", agreement), folder)


def _said(prompts: Prompts) -> dict[str, Tensor]:
    if (prompts.labels == PointLabel.BOX_TOP_LEFT.value).any():
        return {"input_boxes": prompts.points.flatten(1)[None]}
    return {"input_points": prompts.points[None], "input_labels": prompts.labels[None]}


def _followed(model: Sam2, theirs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Follow an object from its box into a second frame; return their logits and ours."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    scene, side = Scene.of(model), model.preprocessing.image_size
    image, box = scene.normalized(model), scene.prompts[0].of(slice(0, 1))
    frames = torch.cat([image, image.roll(side // 64, -1)])
    session = Sam2VideoInferenceSession(frames, side, side, dtype=torch.float32)
    points = {"point_coords": box.points[None], "point_labels": box.labels[None].int()}
    session.add_point_inputs(session.obj_id_to_idx(1), 0, points)
    session.obj_with_new_inputs = [1]
    bank, on_clip = MemoryBank.empty(1), torch.tensor([0])
    rules, course = replace(INFERENCE, memory_dtype=torch.bfloat16), Course(num_frames=2)
    found, expected = [], []
    for frame, features in enumerate(model.encode_image(frames).chunk(2)):
        said = box if frame == 0 else None
        prediction, bank = model.track(features, said, on_clip, bank, frame, course=course, rules=rules)
        expected.append(empty_where_absent(prediction.best()).logits)
        found.append(theirs(session, frame_idx=frame).pred_masks)
    return found, expected


def _required(check: Check, path: Path) -> Check:
    assert check.agreement is not None
    check.agreement.require(f"path={path}: {check.how}", FAULT)
    return check
