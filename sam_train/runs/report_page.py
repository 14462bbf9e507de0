"""What ``report.html`` says beside the numbers: pictures, learning curves, data and settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_train.data.loading.dataset import EvalDataset
from sam_train.evaluation.html import Film, Page, learning_curves
from sam_train.evaluation.object_pictures import choose_objects, draw_objects
from sam_train.evaluation.report import Report
from sam_train.inference.following import MASK
from sam_train.metrics.base import Metric
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.protocols import Protocol
from sam_train.runs.run import Run

if TYPE_CHECKING:
    import pyarrow as pa

_TUNING = {"frozen": "decoder alone trained", "lora": "LoRA in the image encoder", "full": "all weights trained"}


def make_page(
    run: Run,
    report: Report,
    rows: pa.Table,
    metrics: Sequence[Metric],
    models: Mapping[str, PromptableModel],
    dataset: EvalDataset,
    protocols: Mapping[str, Protocol],
    num_pictures: int,
) -> Page:
    """Gather what a report is about, and draw objects.

    Args:
        run: That was evaluated.
        report: Its scores.
        rows: Of the objects.
        metrics: What was measured.
        models: By name.
        dataset: The held-out images.
        protocols: Kinds of prompt by name; pictures are by the first.
        num_pictures: How many of the best, of the worst and of the most changed objects are drawn.
    """
    prompt = next(iter(report.tuned))
    main = next(metric for metric in metrics if metric.name == report.chosen_by)
    chosen = choose_objects(rows, main, prompt, num_pictures) if num_pictures else {}
    objects = [one for some in chosen.values() for one in some]
    config = run.record["config"]
    return Page(
        title=f"{config['model']['preset']}, fine-tuned on {_data_name(config['data'])}",
        facts=_facts(run, report),
        settings=json.dumps(config, indent=2),
        curves=learning_curves(run.folder, report.chosen_by),
        chosen=chosen,
        pictures=draw_objects(models, dataset, protocols[prompt], objects) if objects else {},
        pictured_by=report.prompts[prompt],
    )


def make_clip_page(run: Run, report: Report, films: Sequence[Path]) -> Page:
    """Gather what a report on clips is about.

    Args:
        run: That was evaluated.
        report: Its scores.
        films: Each film and its strip, in turn.
    """
    config = run.record["config"]
    return Page(
        title=f"{config['model']['preset']}, fine-tuned on {_data_name(config['data'])}",
        facts=_facts(run, report),
        settings=json.dumps(config, indent=2),
        curves=learning_curves(run.folder, report.chosen_by),
        pictured_by=report.prompts.get(MASK, MASK),
        films=[Film.read(film, strip) for film, strip in zip(films[::2], films[1::2], strict=True)],
    )


def _data_name(data: Mapping[str, Any]) -> str:
    """Name data as people do: by their folder, or by what they show."""
    if parts := data.get("parts"):
        return ", ".join(parts)
    root = data.get("root")
    return Path(str(root)).name if root else str(data.get("domain") or data["_target_"].rpartition(".")[2])


def _counted(skipped: Mapping[str, int]) -> str:
    """Say how many images of each split cannot be read."""
    return ", ".join(f"{number} {name}" for name, number in skipped.items()) + " that cannot be read"


def _facts(run: Run, report: Report) -> dict[str, str]:
    config, record = run.record["config"], run.record
    data = config["data"]
    numbers = {split: len(keys) for split, keys in record.get("images", {}).items()}
    trained = f"{numbers.get('train', 0)} images, validated on {numbers.get('val', 0)}"
    task = config.get("task")
    drawn = task or config["prompts"]
    mixture = {name: drawn.get(name) for name in ("box", "point", "center", "mask", "given")}
    prompts = [name for name, weight in mixture.items() if weight]
    steps = record.get("horizon")
    return {
        "model": str(config["model"]["preset"]),
        "tuning": _TUNING[config["tuning"]["encoder"]],
        "trained on": f"{_data_name(data)}: {trained}",
        "trained with": f"{', '.join(prompts)}; {drawn['corrections']} corrections",
        "steps": f"{steps:g}" if steps and math.isfinite(steps) else "-",
        "scored": f"{report.num_objects} objects of {report.num_images} {report.split} {report.unit}",
        **({"left out": f"{_counted(report.skipped)}, as skipped.jsonl says"} if report.skipped else {}),
        "checkpoint": f"{run.checkpoint.name}, the best by {record['chosen_by']}"
        if record["chosen_by"]
        else "the last",
        "versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }
