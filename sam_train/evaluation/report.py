"""The comparison of an untuned and a tuned model: mean scores, how sure they are, where they fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from sam_train.files import write_json

Scores = dict[str, dict[str, float]]
"""Kind of prompt to ``{metric: mean over objects}``."""

FEW_GROUPS = 10
"""Below, the ends of a bootstrap interval are rough."""
_MOST_BESIDE = 2  # metrics in columns; of more, a terminal has no room


@dataclass(frozen=True)
class Report:
    """Scores over held-out objects, per model and kind of prompt. Plain values: it is ``report.json``.

    Attributes:
        untuned: Scores of the model before fine-tuning.
        tuned: Scores after.
        num_images: Held-out images, with and without objects.
        num_objects: Held-out objects that were scored.
        num_too_small: Held-out objects that were not, for ``loader.min_area``.
        split: Which part of the data they are.
        metrics: Name of each metric to its ``title`` and ``higher_is_better``, in the order in which they are shown.
        prompts: Name of each kind of prompt to what it is, in words.
        chosen_by: The metric that the best checkpoint was chosen by, or else the last one.
        num_groups: Patients, slides, videos, or images that stand alone.
        differences: Kind of prompt and metric to ``mean``, ``low`` and ``high`` of tuned minus untuned: a 95% bootstrap
            interval over groups, null where there is only one.
        by_size: ``small`` (under 32 x 32 pixels), ``medium`` and ``large`` (from 96 x 96) objects to their number and
            scores, as far as there are any.
        by_category: Likewise for the categories of the data.
        by_source: Likewise for the sources of a mixture.
        by_group: Likewise for groups, the scores of the main metric alone; the first 1000.
        by_image: Likewise for images.
        poor: Kind of prompt and model to the number of objects with an IoU below 0.5, where IoU was measured.
        clicks: Of each model: ``iou`` after each click, and what it takes to reach an IoU: ``noc85``, ``noc90`` (mean
            number of clicks, 20 where it is never reached), ``failures85``, ``failures90``.
        calibration: Of each model and kind of prompt: ``bins`` of predicted against true IoU, ``expected_error``,
            ``mean_squared_error``, ``rank_correlation``.
        coco: Of each model, COCO's AP and AR of its masks by the kind of prompt under ``prompt``.
        controls: What no model, or a wrong prompt, gives; see :mod:`sam_train.evaluation.controls`.
        forgetting: Scores of both models on other, general data, as ``untuned``, ``tuned``, ``num_objects``.
        volumes: Of each model, mean 3D scores over volumes.
        interactive: Of each model, ``j_and_f`` of clips after clicks on one frame, two frames, and so on; ``clicks`` on
            each of them.
        skipped: Images that could not be read and are in no row, by split; ``skipped.jsonl`` names them.
        unit: What ``num_images`` counts: images or clips.
        prompted: By kind of prompt, how many objects could be prompted this way.
    """

    untuned: Scores
    tuned: Scores
    num_images: int
    num_objects: int
    num_too_small: int
    split: str
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    chosen_by: str = "iou"
    num_groups: int = 0
    differences: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    by_size: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_category: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_source: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_group: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_image: dict[str, dict[str, Any]] = field(default_factory=dict)
    poor: dict[str, dict[str, int]] = field(default_factory=dict)
    clicks: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    coco: dict[str, Any] = field(default_factory=dict)
    controls: dict[str, Any] = field(default_factory=dict)
    forgetting: dict[str, Any] = field(default_factory=dict)
    volumes: dict[str, Any] = field(default_factory=dict)
    interactive: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    unit: str = "images"
    prompted: dict[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Report:
        """Make a report of the content of ``report.json``, also of one that an earlier version wrote."""
        return cls(**{name: value for name, value in content.items() if name in cls.__dataclass_fields__})

    def gain(self, prompt: str, metric: str) -> float:
        """How much better the tuned model is: positive for an improvement, whichever direction that is."""
        change = self.tuned[prompt][metric] - self.untuned[prompt][metric]
        return change if self.metrics[metric]["higher_is_better"] else -change

    def table(self) -> Table:
        """Untuned beside tuned, for a terminal; a sure gain is green, a sure loss red."""
        title = f"{self.num_objects} objects of {self.num_images} held-out {self.unit} ({self.split})"
        table = Table(title=title, caption=self._caption())
        if len(self.metrics) > _MOST_BESIDE:
            for column in ("prompt", "metric"):
                table.add_column(column)
            for column in ("untuned", "tuned", "change"):
                table.add_column(column, justify="right")
            for prompt in self.tuned:
                for metric, told in self.metrics.items():
                    is_first = metric == next(iter(self.metrics))
                    table.add_row(prompt if is_first else "", told["title"], *self._cells(prompt, metric))
            return table
        table.add_column("prompt")
        for metric in self.metrics.values():
            for column in ("untuned", "tuned", "change"):
                table.add_column(f"{metric['title']}\n{column}", justify="right")
        for prompt in self.tuned:
            table.add_row(prompt, *(cell for metric in self.metrics for cell in self._cells(prompt, metric)))
        return table

    def _cells(self, prompt: str, metric: str) -> list[str]:
        before, after = self.untuned[prompt][metric], self.tuned[prompt][metric]
        color = self._color(prompt, metric)
        return [f"{before:.3f}", f"[bold]{after:.3f}[/]", f"[{color}]{after - before:+.3f}[/]"]

    def interval(self, prompt: str, metric: str) -> tuple[float, float] | None:
        """The ends of the interval of tuned minus untuned; None where there is none."""
        found = self.differences.get(prompt, {}).get(metric, {})
        low, high = found.get("low"), found.get("high")
        return None if low is None or high is None else (low, high)

    def verdict(self, prompt: str, metric: str) -> int:
        """Return 1 for a sure gain, -1 for a sure loss, 0 where zero is within the interval or there is none."""
        interval = self.interval(prompt, metric)
        if interval is None or interval[0] <= 0 <= interval[1]:
            return 0
        return 1 if self.gain(prompt, metric) > 0 else -1

    def _color(self, prompt: str, metric: str) -> str:
        return {1: "green", 0: "default", -1: "red"}[self.verdict(prompt, metric)]

    def _caption(self) -> str:
        lines = []
        if self.num_too_small:
            share = self.num_too_small / (self.num_too_small + self.num_objects)
            lines.append(f"{self.num_too_small} more ({share:.0%}) are smaller than loader.min_area and not scored")
        if number := self.skipped.get(self.split):
            lines.append(f"{number} more of the {self.unit} cannot be read and are left out: skipped.jsonl")
        for prompt, number in self.prompted.items():
            if number < self.num_objects:
                lines.append(f"{prompt}: scores of the {number} objects that have {self.prompts[prompt]}")
        if self.num_groups == 1:
            lines.append("all objects are of one group: how sure a change is cannot be said")
        elif self.num_groups:
            rough = f", which is rough below {FEW_GROUPS}" if self.num_groups < FEW_GROUPS else ""
            lines.append(f"colored changes: 95% sure, by {self.num_groups} groups{rough}")
        return "\n".join(lines)
