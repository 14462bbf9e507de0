"""SAM 2 with a memory on frames of 4 x 4 cells, in double precision, and clips for it."""

from dataclasses import replace

import torch

from sam_train.models.sam2.memory_bank import FORWARD, INFERENCE, Course, MemoryBank, TrackingRules
from sam_train.models.sam2.sam2 import Sam2
from sam_train.structures import ImageFeatures, MaskPrediction, Prompts
from tests.models.zoo import IMAGE_SIZE, light_config

DIM = 128  # pointers are two vectors of a memory's size


def tracking_model(version: str = "2.1") -> Sam2:
    torch.manual_seed(0)
    config = light_config("sam2_nano")
    model = replace(config, version=version, dim=DIM).build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.double().eval()


def clip_features(model: Sam2, num_frames: int, num_clips: int = 1, seed: int = 0) -> list[ImageFeatures]:
    """Per frame, features of all clips."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num_frames * num_clips, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator).double()
    return model.encode_image(images).chunk(num_frames)


def clicks(num_objects: int, num_points: int = 1, seed: int = 1) -> Prompts:
    generator = torch.Generator().manual_seed(seed)
    points = IMAGE_SIZE * torch.rand(num_objects, num_points, 2, generator=generator).double()
    return Prompts(points, torch.randint(0, 2, (num_objects, num_points), generator=generator))


def square_masks(num_objects: int) -> torch.Tensor:
    masks = torch.zeros(num_objects, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
    for index in range(num_objects):
        masks[index, 4 * index : 4 * index + 20, 10:40] = True
    return masks


def follow(
    model: Sam2,
    frames: list[ImageFeatures],
    object_image: torch.Tensor,
    prompts: Prompts,
    course: Course = FORWARD,
    rules: TrackingRules = INFERENCE,
    forgets: bool = False,
) -> tuple[list[MaskPrediction], MemoryBank]:
    """Objects that are prompted on the first frame of a course and followed through all others."""
    order = range(len(frames) - 1, -1, -1) if course.reverse else range(len(frames))
    bank, predictions = MemoryBank.empty(len(object_image)), []
    for frame in order:
        said = prompts if frame == order[0] else None
        prediction, bank = model.track(frames[frame], said, object_image, bank, frame, course=course, rules=rules)
        predictions.append(prediction)
        if forgets:
            bank = bank.forget(frame + course.step, course, rules)
    return predictions, bank
