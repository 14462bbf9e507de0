"""A training step on a clip beside ``transformers.Sam2VideoModel``: same weights, frames and boxes, equal gradients.

``Sam2VideoModel`` is made for inference. Its step is its own ``forward`` without the decorator that forbids gradients,
in evaluation mode, since it lacks the object score in training mode: objects one by one, frames one by one.

python -m benchmarks.clip_step [--preset sam2.1_hiera_tiny] [--side 512] [--frames 8] [--objects 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.measure import machine, peak_bytes
from sam_train.models.sam2.clip import ClipSchedule, track_clip
from sam_train.models.sam2.memory_bank import INFERENCE
from sam_train.models.sam2.sam2 import Sam2
from sam_train.models.sam2.tracking import empty_where_absent
from sam_train.runs.run import base_model
from sam_train.runs.settings import ModelChoice
from sam_train.structures import MaskPrediction, Prompts

_RULES = replace(INFERENCE, memory_dtype=torch.bfloat16)  # as transformers has them


@dataclass(frozen=True)
class Size:
    """How much a step has to do."""

    preset: str
    side: int
    num_frames: int
    num_objects: int

    def model(self) -> Sam2:
        """Random weights that see objects everywhere."""
        torch.manual_seed(0)
        model = base_model(ModelChoice(self.preset, "random", self.side), 0).eval().requires_grad_(True)
        assert isinstance(model, Sam2)
        head = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            head.bias.add_(5)
        return model

    def frames(self) -> Tensor:
        """The clip."""
        return torch.randn(self.num_frames, 3, self.side, self.side, generator=torch.Generator().manual_seed(0))

    def boxes(self) -> Tensor:
        """A box of each object on the first frame."""
        corner = torch.arange(self.num_objects)[:, None] * self.side / 8
        return torch.cat([corner, corner, corner + self.side / 2, corner + self.side / 3], 1)


@dataclass(frozen=True)
class Boxes:
    """A person who gives a box of each object on the first frame, and says nothing more."""

    boxes: Tensor

    def first(self, frame: int) -> Prompts:
        """Return the boxes."""
        return Prompts.from_boxes(self.boxes)

    def correct(self, frame: int, prompts: Prompts | None, shown: MaskPrediction) -> Prompts:
        """Nothing is corrected."""
        raise AssertionError


class Step(NamedTuple):
    """A model and its loss of a clip."""

    model: nn.Module
    loss: Callable[[Size], Tensor]


def ours(size: Size, checkpoint_activations: bool = False) -> Step:
    """Return the step of ``sam_train``: all frames encoded in one batch, all objects at once."""
    model = size.model()

    def loss(size: Size) -> Tensor:
        features = model.encode_image(size.frames()).chunk(size.num_frames)
        objects = torch.zeros(size.num_objects, dtype=torch.long)
        clip = track_clip(
            model, features, objects, Boxes(size.boxes()), ClipSchedule((0,)), _RULES, checkpoint_activations
        )
        shown = [empty_where_absent(rounds[-1].best()).logits for rounds in clip.rounds.values()]
        return torch.stack([logits.square().mean() for logits in shown]).sum()

    return Step(model, loss)


def theirs(size: Size) -> Step:
    """Return the step of ``transformers`` with the same weights."""
    from transformers import Sam2VideoModel
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    from sam_train.checkpoints import save_checkpoint

    with TemporaryDirectory() as folder:
        save_checkpoint(size.model(), folder, "huggingface")
        model = Sam2VideoModel.from_pretrained(folder).eval().requires_grad_(True)
    forward = Sam2VideoModel.forward.__wrapped__  # without inference_mode  # pyright: ignore[reportFunctionMemberAccess]

    def loss(size: Size) -> Tensor:
        session = Sam2VideoInferenceSession(size.frames(), size.side, size.side, dtype=torch.float32)
        for number, box in enumerate(size.boxes()):
            said = Prompts.from_boxes(box[None])
            place = session.obj_id_to_idx(number + 1)
            session.add_point_inputs(
                place, 0, {"point_coords": said.points[None], "point_labels": said.labels[None].int()}
            )
        session.obj_with_new_inputs = [number + 1 for number in range(size.num_objects)]
        shown = [forward(model, session, frame_idx=frame).pred_masks for frame in range(size.num_frames)]
        return torch.stack([logits.square().mean() for logits in shown]).sum()

    return Step(model, loss)


class Measured(NamedTuple):
    """What a step takes, and what comes of it.

    Attributes:
        seconds: Of the processor.
        megabytes: At its peak, beyond what is held before it.
        loss: The loss.
        norms: Of the gradients of the memory attention, the memory encoder, and everything.
    """

    seconds: float
    megabytes: float
    loss: float
    norms: tuple[float, ...]


def measure(build: Callable[[Size], Step], size: Size) -> Measured:
    """Measure one step in a process of its own, after a small one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (build, size))


def _measure(build: Callable[[Size], Step], size: Size) -> Measured:
    model, loss = build(size)
    loss(replace(size, num_frames=2, num_objects=1)).backward()
    model.zero_grad(set_to_none=False)  # gradients are held before and after
    taken = [0.0, 0.0]

    def step() -> None:
        begin = time.process_time()
        found = loss(size)
        found.backward()
        taken[:] = time.process_time() - begin, found.item()

    highest = peak_bytes(step, torch.device("cpu"))
    parts = ("memory_attention", "memory_encoder", "")
    return Measured(taken[0], highest / 2**20, taken[1], tuple(_norm(model, part) for part in parts))


def _norm(model: nn.Module, part: str) -> float:
    grads = [one.grad for name, one in model.named_parameters() if name.startswith(part) and one.grad is not None]
    return float(torch.stack([grad.norm() for grad in grads]).norm())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="sam2.1_hiera_tiny")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--objects", type=int, default=3)
    options = parser.parse_args()
    size = Size(options.preset, options.side, options.frames, options.objects)
    table = Table("step", "processor seconds", "MB", "loss", "gradient: memory attention", "memory encoder", "all")
    steps: dict[str, Callable[[Size], Step]] = {
        "sam_train": ours,
        "transformers": theirs,
        "sam_train, checkpoint_activations": partial(ours, checkpoint_activations=True),
    }
    for name, build in steps.items():
        found = measure(build, size)
        numbers = (f"{number:.6g}" for number in (found.loss, *found.norms))
        table.add_row(name, f"{found.seconds:.1f}", f"{found.megabytes:.0f}", *numbers)
        print(name, found, flush=True)
    Console(width=140).print(machine(), size, table)


if __name__ == "__main__":
    main()
