"""From rows of scores to a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sam_train.evaluation.report import Report
from sam_train.evaluation.statistics import difference
from sam_train.metrics.base import Metric
from sam_train.metrics.calibration import calibrate
from sam_train.metrics.clicks import score_clicks
from sam_train.metrics.coco import PredictedMask, TrueMask, score_detections
from sam_train.metrics.rle import Rle
from sam_train.metrics.table import mean_scores

if TYPE_CHECKING:
    import pyarrow as pa

MODELS = ("untuned", "tuned")
SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, math.inf),
}
"""Areas in pixels, as COCO counts them: from the first to below the second."""
_MOST_LISTED = 1000  # groups and images that the report lists one by one; the rows have all


def summarize(
    rows: pa.Table,
    metrics: Sequence[Metric],
    titles: Mapping[str, str],
    counts: Mapping[str, int],
    split: str,
    chosen_by: str,
    unit: str = "images",
) -> Report:
    """Make the report on rows of scores.

    Args:
        rows: With the columns of the models ``untuned`` and ``tuned``.
        metrics: What was measured.
        titles: Kinds of prompt, in the order wanted, and what they are in words; controls are not among them.
        counts: ``num_images`` and ``num_too_small``.
        split: Which part of the data was scored.
        chosen_by: What the best checkpoint was chosen by: a metric, or ``<metric>_<prompt>``.
        unit: What ``num_images`` counts.
    """
    told = {
        metric.name: {"title": metric.title or metric.name, "higher_is_better": metric.higher_is_better}
        for metric in metrics
    }
    main = _main_metric(list(told), chosen_by)
    untuned, tuned = (mean_scores(rows, metrics, list(titles), model) for model in MODELS)
    prompts = {name: titles[name] for name in tuned}
    differences = {
        prompt: {metric.name: _ends(difference(rows, metric, prompt)) for metric in metrics} for prompt in prompts
    }
    objects = len(set(zip(rows.column("image").to_pylist(), rows.column("object").to_pylist(), strict=True)))
    return Report(
        untuned,
        tuned,
        num_images=counts["num_images"],
        num_too_small=counts["num_too_small"],
        num_objects=objects,
        split=split,
        metrics=told,
        prompts=prompts,
        chosen_by=main,
        num_groups=len(set(rows.column("group").to_pylist())),
        differences=differences,
        by_size=_parts(rows, metrics, list(prompts), SIZES if "area" in rows.column_names else (), _has_size),
        by_category=_parts(rows, metrics, list(prompts), _values(rows, "category"), _is("category")),
        by_source=_parts(rows, metrics, list(prompts), _values(rows, "source"), _is("source")),
        by_group=_by(rows, "group", main, list(prompts)),
        by_image=_by(rows, "image", main, list(prompts)),
        poor=_poor(rows, list(prompts)),
        clicks=_clicks(rows),
        calibration=_calibration(rows, list(prompts)),
        coco=_coco(rows),
        unit=unit,
        prompted={prompt: rows.column("prompt").to_pylist().count(prompt) for prompt in prompts},
    )


def _main_metric(names: Sequence[str], chosen_by: str) -> str:
    """Return the metric that ``<metric>`` or ``<metric>_<prompt>`` names, or else the last one."""
    of_prompt = (name for name in sorted(names, key=len, reverse=True) if f"{chosen_by}_".startswith(f"{name}_"))
    return next(of_prompt, names[-1])


def _ends(found: Any) -> dict[str, float | None]:
    return {name: value for name, value in asdict(found).items() if name in ("mean", "low", "high")}


def _parts(
    rows: pa.Table,
    metrics: Sequence[Metric],
    prompts: Sequence[str],
    names: Sequence[str] | Mapping[str, Any],
    belongs: Callable[[str], Any],
) -> dict[str, dict[str, Any]]:
    """Scores of each part of the objects that has any."""
    found = {}
    for name in names:
        part = rows.filter(belongs(name))
        if part.num_rows:
            keys = set(zip(part.column("image").to_pylist(), part.column("object").to_pylist(), strict=True))
            scores = {model: mean_scores(part, metrics, prompts, model) for model in MODELS}
            found[name] = {"num_objects": len(keys), **scores}
    return found


def _has_size(name: str) -> Any:
    import pyarrow.compute as pc

    low, high = SIZES[name]
    return (pc.field("area") >= low) & (pc.field("area") < high)


def _is(column: str) -> Callable[[str], Any]:
    import pyarrow.compute as pc

    return lambda name: pc.field(column) == name


def _by(rows: pa.Table, column: str, metric: str, prompts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Average one metric over the objects of each group or image, the first ones in order of their names."""
    names = [f"{model}_{metric}" for model in MODELS]
    columns = (rows.column(name).to_pylist() for name in (column, "prompt", *names))
    values: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for part, prompt, *scores in zip(*columns, strict=True):
        if prompt in prompts:
            values.setdefault(part, {}).setdefault(prompt, []).append(tuple(scores))
    found: dict[str, dict[str, Any]] = {}
    for part in sorted(values)[:_MOST_LISTED]:
        of_part = values[part]
        found[part] = {"num_objects": max(map(len, of_part.values()))}
        for place, model in enumerate(MODELS):
            found[part][model] = {
                prompt: {metric: math.fsum(scores[place] for scores in of_part[prompt]) / len(of_part[prompt])}
                for prompt in prompts
                if prompt in of_part
            }
    return found


def _values(rows: pa.Table, column: str) -> list[str]:
    """Return the names in a column, in order."""
    return sorted({name for name in rows.column(column).to_pylist() if name}) if column in rows.column_names else []


def _poor(rows: pa.Table, prompts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count objects that were not found."""
    import pyarrow.compute as pc

    if not {f"{model}_iou" for model in MODELS} <= set(rows.column_names):
        return {}
    return {
        prompt: {
            model: rows.filter((pc.field("prompt") == prompt) & (pc.field(f"{model}_iou") < 0.5)).num_rows
            for model in MODELS
        }
        for prompt in prompts
    }


def _clicks(rows: pa.Table) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        column = f"{model}_iou_by_click"
        curves = [curve for curve in rows.column(column).to_pylist() if curve] if column in rows.column_names else []
        if curves:
            length = max(map(len, curves))
            scores = score_clicks(curves, max_clicks=length)
            found[model] = {"iou": list(scores.curve), "max_clicks": length}
            for reached in scores.reached:
                percent = round(100 * reached.threshold)
                found[model] |= {f"noc{percent}": reached.noc, f"failures{percent}": reached.failures}
    return found


def _calibration(rows: pa.Table, prompts: Sequence[str]) -> dict[str, dict[str, Any]]:
    import pyarrow.compute as pc

    found: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        needed = [f"{model}_predicted_iou", f"{model}_iou"]
        if not set(needed) <= set(rows.column_names):
            continue
        for prompt in prompts:
            some = rows.filter(pc.field("prompt") == prompt)
            found.setdefault(model, {})[prompt] = asdict(calibrate(*(some.column(name).to_pylist() for name in needed)))
    return found


def _coco(rows: pa.Table) -> dict[str, Any]:
    """AP and AR of the masks that were kept, by the data's own prompts or else by boxes."""
    if "true_rle" not in rows.column_names:
        return {}
    import pyarrow.compute as pc

    prompt = boxes_in(rows)
    kept = rows.filter((pc.field("prompt") == prompt) & pc.field("true_rle").is_valid()).to_pylist()
    truths = [TrueMask(row["image"], _rle(row, "true_rle"), row["category"] or "", row["area"]) for row in kept]
    scores: dict[str, Any] = {"prompt": prompt}
    for model in MODELS if kept else ():
        found = [
            PredictedMask(row["image"], _rle(row, f"{model}_rle"), row[f"{model}_predicted_iou"], row["category"] or "")
            for row in kept
        ]
        scores[model] = score_detections(found, truths)
    return scores


def boxes_in(rows: pa.Table) -> str:
    """Return the kind of prompt whose masks count as found: the data's own prompts, or else tight boxes."""
    return "given" if "given" in rows.column("prompt").to_pylist() else "box"


def _rle(row: Mapping[str, Any], column: str) -> Rle:
    return Rle(size=[row["height"], row["width"]], counts=row[column])
