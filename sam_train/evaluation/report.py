"""The comparison of an untuned and a tuned model: mean scores, a table for the terminal, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sam_train.files import write_json
from sam_train.metrics.base import Metric
from sam_train.metrics.table import mean_scores

if TYPE_CHECKING:
    import pyarrow as pa

Scores = dict[str, dict[str, float]]
"""Kind of prompt to ``{metric: mean over objects}``."""


@dataclass(frozen=True)
class Report:
    """Mean scores over held-out objects, per model and kind of prompt.

    Attributes:
        untuned: Scores of the model before fine-tuning.
        tuned: Scores after.
        num_images: Held-out images, with and without objects.
        num_objects: Held-out objects that were scored.
        num_too_small: Held-out objects that were not, for ``loader.min_area``.
        split: Which part of the data they are.
        metrics: Name of each metric to its ``title`` and ``higher_is_better``, in the order in which they are shown.
        chosen_by: The metric that the best checkpoint was chosen by, or else the last one.
        unit: What ``num_images`` counts: images or clips.
    """

    untuned: Scores
    tuned: Scores
    num_images: int
    num_objects: int
    num_too_small: int
    split: str
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen_by: str = "iou"
    unit: str = "images"

    @classmethod
    def of(
        cls,
        rows: pa.Table,
        metrics: Sequence[Metric],
        prompts: Sequence[str],
        counts: Mapping[str, int],
        split: str,
        chosen_by: str,
        unit: str = "images",
    ) -> Report:
        """Make the report on rows of scores.

        Args:
            rows: With the columns of the models ``untuned`` and ``tuned``.
            metrics: What was measured.
            prompts: Kinds of prompt, in the order wanted.
            counts: ``num_images`` and ``num_too_small``.
            split: Which part of the data was scored.
            chosen_by: What the best checkpoint was chosen by: a metric, or ``<metric>_<prompt>``.
            unit: What ``num_images`` counts.
        """
        keys = zip(rows.column("image").to_pylist(), rows.column("object").to_pylist(), strict=True)
        told = {
            metric.name: {"title": metric.title or metric.name, "higher_is_better": metric.higher_is_better}
            for metric in metrics
        }
        untuned, tuned = (mean_scores(rows, metrics, prompts, model) for model in ("untuned", "tuned"))
        main = next((name for name in told if chosen_by in (name, *(f"{name}_{one}" for one in prompts))), [*told][-1])
        return cls(
            untuned, tuned, **counts, num_objects=len(set(keys)), split=split, metrics=told, chosen_by=main, unit=unit
        )

    def save(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all."""
        write_json(path, asdict(self))

    def gain(self, prompt: str, metric: str) -> float:
        """How much better the tuned model is: positive for an improvement, whichever direction that is."""
        change = self.tuned[prompt][metric] - self.untuned[prompt][metric]
        return change if self.metrics[metric]["higher_is_better"] else -change

    def table(self) -> Table:
        """Untuned beside tuned, for a terminal; gains are green, losses red."""
        table = Table(title=f"{self.num_objects} objects of {self.num_images} held-out {self.unit} ({self.split})")
        if self.num_too_small:
            share = self.num_too_small / (self.num_too_small + self.num_objects)
            table.caption = f"{self.num_too_small} more ({share:.0%}) are smaller than loader.min_area and not scored"
        table.add_column("prompt")
        for metric in self.metrics.values():
            for column in ("untuned", "tuned", "change"):
                table.add_column(f"{metric['title']}\n{column}", justify="right")
        for prompt, tuned in self.tuned.items():
            cells = []
            for metric in self.metrics:
                before, after = self.untuned[prompt][metric], tuned[metric]
                color = "green" if self.gain(prompt, metric) > 0 else "red"
                cells += [f"{before:.3f}", f"[bold]{after:.3f}[/]", f"[{color}]{after - before:+.3f}[/]"]
            table.add_row(prompt, *cells)
        return table
