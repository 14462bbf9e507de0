"""``report.html``: what was gained, how sure that is and where the model still fails, in one file to mail."""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sam_train.evaluation.object_pictures import ObjectScore
from sam_train.evaluation.plots import draw_plots
from sam_train.evaluation.report import FEW_GROUPS, Report
from sam_train.pages import write_page

_LISTED = 12  # categories and groups, the worst first


class Film(NamedTuple):
    """A clip to be looked at.

    Attributes:
        name: Of the clip.
        film: As a data URI: mp4, or an animated PNG.
        strip: A few of its frames, likewise.
    """

    name: str
    film: str
    strip: str

    @classmethod
    def read(cls, film: Path, strip: Path) -> Film:
        """Read both from files."""
        kind = "video/mp4" if film.suffix == ".mp4" else "image/png"
        return cls(film.stem, _uri(film, kind), _uri(strip, "image/png"))


def _uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


@dataclass(frozen=True)
class Page:
    """What a report is about, beside its numbers.

    Attributes:
        title: What was tuned on what.
        facts: Data and settings in a few lines, by name.
        settings: All settings of the run, as text.
        curves: Name of each learning curve to its steps and values.
        chosen: The objects in pictures, by why they were chosen.
        pictures: Image id and value of each of these objects to its picture as a data URI.
        pictured_by: The kind of prompt of the pictures.
        films: Of clips: what was followed, as a film and as a strip of frames.
    """

    title: str
    facts: Mapping[str, str]
    settings: str = ""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    chosen: Mapping[str, Sequence[ObjectScore]] = field(default_factory=dict)
    pictures: Mapping[tuple[str, int], str] = field(default_factory=dict)
    pictured_by: str = ""
    films: Sequence[Film] = ()


def write_html(path: Path, report: Report, page: Page) -> None:
    """Write the report as one file that needs no other and no network, whole or not at all."""
    content = {
        "report": report,
        "page": page,
        "main": report.chosen_by,
        "headline": headline(report),
        "plots": draw_plots(report, page.curves),
        "parts": _parts(report),
        "cards": [name for name in report.tuned if not name.startswith("box_")],
        "few_groups": 1 < report.num_groups < FEW_GROUPS,
        "words": _words(report),
    }
    write_page(path, Path(__file__).with_name("report.html.j2"), content)


def headline(report: Report) -> str:
    """Say in a sentence or two what was gained by the main metric with the first kind of prompt, and how surely."""
    metric, title, prompt = report.chosen_by, report.metrics[report.chosen_by]["title"], next(iter(report.tuned))
    before, after = report.untuned[prompt][metric], report.tuned[prompt][metric]
    ends = report.interval(prompt, metric)
    sure = f" (95% interval {ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""
    name = report.prompts.get(prompt, prompt)
    said = f"Fine-tuning changed {title} ({name}) from {before:.3f} to {after:.3f}, by {after - before:+.3f}{sure}."
    if report.num_groups < 2:
        return f"{said} All objects are of one group, so an interval cannot be had."
    return f"{said} {_verdicts(report)}"


def _words(report: Report) -> dict[int, str]:
    """Return what a verdict is called; intervals over few groups are too narrow to be called sure."""
    how = "likely" if report.num_groups < FEW_GROUPS else "surely"
    return {1: f"{how} better", -1: f"{how} worse", 0: "no sure change"}


def _verdicts(report: Report) -> str:
    """Say with which kinds of prompt the main metric is better or worse, and how surely."""
    by_sign: dict[int, list[str]] = {}
    for prompt in report.tuned:
        by_sign.setdefault(report.verdict(prompt, report.chosen_by), []).append(report.prompts.get(prompt, prompt))
    words = {sign: words.capitalize() for sign, words in _words(report).items()}
    if len(by_sign) == 1:
        (sign,) = by_sign
        return f"{words[sign]} with {'every' if sign else 'any'} kind of prompt."
    return " ".join(f"{words[sign]} with {_listed(by_sign[sign])}." for sign in words if sign in by_sign)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, ["; ".join(names[:-1]), names[-1]]))


def _parts(report: Report) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables of sizes, categories and groups, by the first kind of prompt; the worst first."""
    prompt, metric = next(iter(report.tuned), ""), report.chosen_by
    sign = 1 if report.metrics[metric]["higher_is_better"] else -1
    found = {}
    for title, parts in (
        ("Source", report.by_source),
        ("Size", report.by_size),
        ("Category", report.by_category),
        ("Group", report.by_group if report.num_groups > 1 else {}),
    ):
        rows = [
            {
                "name": name,
                "number": part["num_objects"],
                **{model: part[model][prompt][metric] for model in ("untuned", "tuned")},
            }
            for name, part in parts.items()
            if prompt in part["tuned"]
        ]
        if title not in ("Size", "Source"):
            rows = sorted(rows, key=lambda row: sign * row["tuned"])[:_LISTED]
        if rows:
            found[title] = rows
    return found


def learning_curves(folder: Path, metric: str) -> dict[str, list[tuple[float, float]]]:
    """Read the loss and the validations of a run from the tables that Lightning's CSV logger has left in its folder.

    Args:
        folder: Of the run; where it has no tables, there are no curves.
        metric: Whose validations, by kind of prompt.
    """
    curves: dict[str, dict[float, float]] = {}
    tables = folder.glob("metrics/version_*/metrics.csv")
    for path in sorted(tables, key=lambda path: int(path.parent.name.removeprefix("version_"))):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and (name == "train/loss" or f"{name}_".startswith(f"val/{metric}_")):
                        curves.setdefault(name, {})[float(row["step"])] = float(value)  # the later run's, if resumed
    curves.pop(f"val/{metric}", None)  # their mean
    return {name: sorted(points.items()) for name, points in curves.items()}
