"""The comparison of an untuned and a tuned model: scores, a table, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from PIL import Image
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from sam_train.data.loading.dataset import EvalDataset
from sam_train.files import write_json
from sam_train.inference.interaction import encode
from sam_train.inference.overlay import grid, paint, panel, prediction_panel
from sam_train.inference.scoring import ObjectScore, gather, gather_scores, mean_scores, score_batch
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import EVALUATION, PromptSimulator
from sam_train.structures import Batch


@dataclass(frozen=True)
class Report:
    """Mean scores over held-out objects, per model and kind of prompt.

    Attributes:
        untuned: Kind of prompt to ``{"dice": ..., "iou": ...}``, of the model before fine-tuning.
        tuned: Likewise, after.
        num_images: Held-out images, with and without objects.
        num_objects: Held-out objects that were scored.
        num_too_small: Held-out objects that were not, for ``loader.min_area``.
        split: Which part of the data they are.
    """

    untuned: dict[str, dict[str, float]]
    tuned: dict[str, dict[str, float]]
    num_images: int
    num_objects: int
    num_too_small: int
    split: str

    def save(self, path: Path) -> None:
        """As JSON, all of it or nothing."""
        write_json(path, asdict(self))

    def table(self) -> Table:
        """Untuned beside tuned, for a terminal."""
        table = Table(title=f"{self.num_objects} objects of {self.num_images} held-out images ({self.split})")
        if self.num_too_small:
            share = self.num_too_small / (self.num_too_small + self.num_objects)
            table.caption = f"{self.num_too_small} more ({share:.0%}) are smaller than loader.min_area and not scored"
        table.add_column("prompt")
        for metric in ("Dice", "IoU"):
            for column in ("untuned", "tuned", "gain"):
                table.add_column(f"{metric}\n{column}", justify="right")
        for prompt, tuned in self.tuned.items():
            cells = []
            for metric in ("dice", "iou"):
                before, after = self.untuned[prompt][metric], tuned[metric]
                color = "green" if after > before else "red"
                cells += [f"{before:.3f}", f"[bold]{after:.3f}[/]", f"[{color}]{after - before:+.3f}[/]"]
            table.add_row(prompt, *cells)
        return table


class Scored(NamedTuple):
    """How a model did on the held-out images.

    Attributes:
        scores: Of each object by each protocol.
        num_too_small: Objects that ``loader.min_area`` left out.
    """

    scores: list[ObjectScore]
    num_too_small: int


def score(
    model: PromptableModel,
    loader: DataLoader[Batch],
    progress: Progress,
    title: str,
    protocols: Mapping[str, PromptSimulator] = EVALUATION,
) -> Scored:
    """Every object of this process's share of the data; every process gets the scores of all."""
    model.eval()
    device = next(model.parameters()).device
    scores: list[ObjectScore] = []
    too_small: list[tuple[str, int]] = []
    for batch in progress.track(loader, description=title):
        assert batch.num_too_small is not None
        scores.extend(score_batch(model, batch.to(device), protocols))
        too_small.extend(zip(batch.ids, batch.num_too_small, strict=True))
    return Scored(gather_scores(scores), sum(dict(gather(too_small)).values()))


def compare(untuned: Scored, tuned: Scored, num_images: int, split: str) -> Report:
    """The report on two models' scores of the same objects."""
    keys = [[(score.image, score.object, score.prompt) for score in model.scores] for model in (untuned, tuned)]
    assert keys[0] == keys[1], "both models must have seen the same objects"
    num_objects = len({(score.image, score.object) for score in tuned.scores})
    means = mean_scores(untuned.scores), mean_scores(tuned.scores)
    return Report(*means, num_images, num_objects, tuned.num_too_small, split)


@torch.no_grad()
def save_overlays(
    untuned: PromptableModel, tuned: PromptableModel, dataset: EvalDataset, count: int, folder: Path
) -> list[Path]:
    """One picture for each of the first images with objects: per kind of prompt, truth, untuned and tuned."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for index in range(len(dataset)):
        if len(paths) == count:
            break
        batch = dataset[index]
        if batch.num_objects:
            paths.append(folder / f"{len(paths):02d}_{Path(batch.ids[0]).name}.png")
            _overlay(untuned, tuned, batch, dataset.images.read(index).image).save(paths[-1])
    return paths


def _overlay(
    untuned: PromptableModel, tuned: PromptableModel, batch: Batch, image: UInt8[Tensor, "3 h w"]
) -> Image.Image:
    assert batch.originals is not None
    (truth,) = batch.originals
    objects = paint(truth.each_mask(), truth.size)
    plain = [("image", panel(image)), (f"truth: {len(truth.value)} objects", panel(image, objects))]
    rows = []
    for prompt, simulator in EVALUATION.items():
        row = [*plain]
        for title, model in (("untuned", untuned), ("tuned", tuned)):
            on_device = batch.to(next(model.parameters()).device)
            picture, dice = prediction_panel(model, encode(model, on_device), on_device, 0, simulator, image)
            row.append((f"{prompt}, {title}: Dice {dice:.2f}", picture))
        rows.append(row)
    return grid(rows)
