"""The comparison of an untuned and a tuned model: scores, a table, and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from sam_train.data.dataset import EvalDataset
from sam_train.inference.interaction import encode
from sam_train.inference.overlay import grid, panel
from sam_train.inference.scoring import ObjectScore, gather_scores, mean_scores, predict_image, score_batch
from sam_train.metrics.region import region_scores
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
        num_objects: Held-out objects.
        split: Which part of the data they are.
    """

    untuned: dict[str, dict[str, float]]
    tuned: dict[str, dict[str, float]]
    num_images: int
    num_objects: int
    split: str

    def save(self, path: Path) -> None:
        """As JSON, all of it or nothing."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    def table(self) -> Table:
        """Untuned beside tuned, for a terminal."""
        table = Table(title=f"{self.num_objects} objects of {self.num_images} held-out images ({self.split})")
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


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def score(
    model: PromptableModel,
    loader: DataLoader[Batch],
    progress: Progress,
    title: str,
    protocols: Mapping[str, PromptSimulator] = EVALUATION,
) -> list[ObjectScore]:
    """Every object of this process's share of the data; every process gets the scores of all."""
    model.eval()
    device = next(model.parameters()).device
    scores: list[ObjectScore] = []
    for batch in progress.track(loader, description=title):
        scores.extend(score_batch(model, batch.to(device), protocols))
    return gather_scores(scores)


def compare(untuned: Sequence[ObjectScore], tuned: Sequence[ObjectScore], num_images: int, split: str) -> Report:
    """The report on two models' scores of the same objects."""
    keys = [[(score.image, score.object, score.prompt) for score in scores] for scores in (untuned, tuned)]
    assert keys[0] == keys[1], "both models must have seen the same objects"
    num_objects = len({(score.image, score.object) for score in tuned})
    return Report(mean_scores(untuned), mean_scores(tuned), num_images, num_objects, split)


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
            _overlay(untuned, tuned, batch, dataset.source.read(index).image).save(paths[-1])
    return paths


def _overlay(
    untuned: PromptableModel, tuned: PromptableModel, batch: Batch, image: UInt8[Tensor, "3 h w"]
) -> Image.Image:
    assert batch.original_masks is not None
    truth = batch.original_masks[0]
    rows = []
    for prompt, simulator in EVALUATION.items():
        row = [("image", panel(image)), (f"truth: {len(truth)} objects", panel(image, truth))]
        for title, model in (("untuned", untuned), ("tuned", tuned)):
            on_device = batch.to(next(model.parameters()).device)
            result = predict_image(model, encode(model, on_device), on_device, 0, simulator)
            masks, prompts = result.masks.cpu(), result.prompts.to("cpu")
            dice = region_scores(masks, truth).dice.mean().item()
            caption = f"{prompt}, {title}: Dice {dice:.2f}"
            row.append((caption, panel(image, masks, prompts, model.preprocessing)))
        rows.append(row)
    return grid(rows)
