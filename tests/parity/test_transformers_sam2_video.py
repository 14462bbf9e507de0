"""Objects are followed as by ``transformers.Sam2VideoModel``, an independent implementation that loads our folder.

It is compared where it follows the official predictor: one conditioning frame for each object and no corrections.
"""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sam_train.checkpoints import save_checkpoint
from sam_train.models.sam2.memory_bank import INFERENCE, Course, MemoryBank
from sam_train.models.sam2.tracking import empty_where_absent
from sam_train.structures import Prompts
from tests.checkpoints.tiny import SAM2_CONFIG, build

SIDE, NUM_FRAMES = 128, 10  # more frames than a bank has memories
ROUNDING = {"atol": 4e-4, "rtol": 1e-5}
# A given mask is remembered by transformers as it is, and by the official predictor from a quarter of its size.
TOLERANCE = {"mask": {"atol": 4e-2, "rtol": 1e-3}, "box": ROUNDING, "click": ROUNDING}


def mask() -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return torch.hypot(rows - 60.0, columns - 50.0) < 30


def session(frames, kind: str) -> Sam2VideoInferenceSession:
    theirs = Sam2VideoInferenceSession(frames, SIDE, SIDE, dtype=torch.float32)
    index = theirs.obj_id_to_idx(1)
    if kind == "mask":
        theirs.add_mask_inputs(index, 0, mask()[None, None].float())
    else:
        said = prompts(kind)
        theirs.add_point_inputs(index, 0, {"point_coords": said.points[None], "point_labels": said.labels[None].int()})
    theirs.obj_with_new_inputs = [1]
    return theirs


def prompts(kind: str) -> Prompts | None:
    if kind == "mask":
        return None
    if kind == "box":
        return Prompts.from_boxes(torch.tensor([[20.0, 30.0, 80.0, 90.0]]))
    return Prompts(torch.tensor([[[50.0, 60.0]]]), torch.tensor([[1]]))


@torch.no_grad()
@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize("kind", ["mask", "box", "click"])
def test_objects_are_followed_as_by_transformers(version, kind, tmp_path):
    ours = build(replace(SAM2_CONFIG, version=version, dim=128))
    ours.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 5  # or random weights see no object
    save_checkpoint(ours, tmp_path, "huggingface")
    theirs = Sam2VideoModel.from_pretrained(tmp_path).eval()
    frames = torch.randn(NUM_FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    features = ours.encode_image(frames).chunk(NUM_FRAMES)
    said, asked = prompts(kind), session(frames, kind)
    bank, object_image = MemoryBank.empty(1), torch.tensor([0])
    rules, course = replace(INFERENCE, memory_dtype=torch.bfloat16), Course(num_frames=NUM_FRAMES)
    for frame in range(NUM_FRAMES):
        first = {"prompts": said, "masks": mask()[None] if kind == "mask" else None}
        now = first if frame == 0 else {"prompts": None}
        prediction, bank = ours.track(
            features[frame], now.pop("prompts"), object_image, bank, frame, course=course, rules=rules, **now
        )
        shown, expected = empty_where_absent(prediction.best()), theirs(asked, frame_idx=frame)
        assert_close(shown.object_score, expected.object_score_logits.view(-1), **TOLERANCE[kind])
        assert_close(shown.logits, expected.pred_masks, **TOLERANCE[kind])
        assert shown.logits.std() > 5
