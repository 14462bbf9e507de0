"""Pictures of held-out images: the truth, and what the untuned and the tuned model find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from sam_train.data.loading.dataset import EvalDataset
from sam_train.files import written_whole
from sam_train.inference.overlay import grid, paint, panel, prediction_panel
from sam_train.inference.scoring import encode_all
from sam_train.metrics.base import Metric
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import PromptSimulator
from sam_train.structures import Batch


@torch.no_grad()
def save_pictures(
    models: Mapping[str, PromptableModel],
    dataset: EvalDataset,
    protocols: Mapping[str, PromptSimulator],
    metrics: Sequence[Metric],
    count: int,
    folder: Path,
) -> list[Path]:
    """Draw each of the first images with objects: a row for each kind of prompt, truth beside what each model finds.

    Args:
        models: By name, in order.
        dataset: The held-out images.
        protocols: Kinds of prompt by name.
        metrics: Whose means stand above each panel.
        count: How many images.
        folder: Where the files go, numbered and named after the images.
    """
    paths: list[Path] = []
    for index in range(len(dataset)):
        if len(paths) == count:
            break
        batch = dataset[index]
        if batch.num_objects:
            paths.append(folder / f"{len(paths):02d}_{Path(batch.ids[0]).name}.png")
            picture = _draw(models, batch, dataset.images.read(index).image, protocols, metrics)
            with written_whole(paths[-1]) as file:
                picture.save(file)
    return paths


def _draw(
    models: Mapping[str, PromptableModel],
    batch: Batch,
    image: UInt8[Tensor, "3 h w"],
    protocols: Mapping[str, PromptSimulator],
    metrics: Sequence[Metric],
) -> Image.Image:
    assert batch.originals is not None
    (truth,) = batch.originals
    objects = paint(truth.each_mask(), truth.size)
    plain = [("image", panel(image)), (f"truth: {len(truth.value)} objects", panel(image, objects))]
    batch = batch.to(next(next(iter(models.values())).parameters()).device)
    features = encode_all(models, batch)
    rows = []
    for prompt, simulator in protocols.items():
        row = [*plain]
        for name, model in models.items():
            picture, scores = prediction_panel(model, features[name], batch, 0, simulator, image, metrics)
            row.append((f"{prompt}, {name}: {scores}", picture))
        rows.append(row)
    return grid(rows)
