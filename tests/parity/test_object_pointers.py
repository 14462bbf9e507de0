"""Mask tokens are the ones that the official code projects to object pointers."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from torch.testing import assert_close

from sam_train.models import build_model
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Prompts
from tests.parity.reference import ROOT, formula, needs_reference

FOLDER = ROOT / "sam2.1_hiera_t"


def as_the_video_loader(frame: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """A frame (h w 3, 8 bit) as the official code loads videos: resized by Pillow, in 8 bit and bicubic."""
    side = preprocessing.image_size
    resized = np.array(Image.fromarray(frame.numpy()).resize((side, side)))
    return preprocessing.normalize(torch.from_numpy(resized).permute(2, 0, 1)[None], torch.tensor([[side, side]]))


def pointer(state: dict[str, torch.Tensor], token: torch.Tensor) -> torch.Tensor:
    """The video model's projection (``obj_ptr_proj``) of the token of an object that is in the frame."""
    for layer in range(3):
        token = F.linear(
            token, state[f"obj_ptr_proj.layers.{layer}.weight"], state[f"obj_ptr_proj.layers.{layer}.bias"]
        )
        token = F.relu(token) if layer < 2 else token
    return token


@needs_reference
@torch.no_grad()
def test_object_pointers_of_a_first_frame_equal_the_official_ones():
    """After a click the pointer comes from the best of three masks, after a box from the single mask."""
    recipe = json.loads((FOLDER / "video.json").read_text())
    clip, weights = recipe["clip"], recipe["weights"]
    state = formula().reference_state_dict(FOLDER / "keys.json", weights["seed"])
    formula().apply_overrides(state, weights["overrides"])
    model = build_model("sam2.1_hiera_tiny").eval()
    model.load_state_dict(state)
    frames, _ = formula().reference_clip(clip["seed"], clip["num_frames"], clip["height"], clip["width"])
    features = model.encode_image(as_the_video_loader(frames[0], model.preprocessing))

    click, box, saved = recipe["scenarios"][0]["steps"][:3]
    size, image = (clip["height"], clip["width"]), torch.tensor([0])
    scale = model.preprocessing.scale_points
    clicked = Prompts(scale(torch.tensor([click["points"]]), size), torch.tensor([click["labels"]]))
    boxed = Prompts.from_boxes(scale(torch.tensor([box["box"]]).view(1, 2, 2), size).flatten(1))
    tokens = [
        model.predict(features, clicked, image, multimask=True).best().mask_tokens[0],
        model.predict(features, boxed, image, multimask=False).best().mask_tokens[0],
    ]
    with safe_open(FOLDER / "video.safetensors", "pt") as file:
        expected = file.get_tensor(saved["tensors"]["object_pointer"])
    noise = recipe["noise_1_thread_against_2"]["per step"]["forward, propagate frame 0"]["object_pointer"]
    assert_close(pointer(state, torch.cat(tokens)), expected.flatten(0, -2), atol=max(20 * noise, 1e-4), rtol=0)
