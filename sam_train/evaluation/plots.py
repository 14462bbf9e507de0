"""Plots of a report, as images that a page holds in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sam_train.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"untuned": "#8b929c", "tuned": "#1f6feb"}
_SIZE = (4.4, 3.0)  # inches: as wide as a telephone
_ONE = 1.0


def draw_plots(report: Report, curves: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, str]:
    """Draw what a report has numbers for.

    Args:
        report: The numbers.
        curves: Name of each learning curve to its steps and values.

    Returns:
        Title of each plot to its image as a data URI.
    """
    title = report.metrics[report.chosen_by]["title"]
    clicks = {model: told["iou"] for model, told in report.clicks.items()}
    plots = {
        f"Change of {title} by kind of prompt": _changes(report),
        "IoU against clicks": _climb(clicks, "clicks", "mean IoU"),
        "J&F against corrected frames": _corrected(report),
        f"{title} against the error of the box": _jitter(report),
        f"{title} by size of the object": _sizes(report),
        "Predicted against true IoU": _reliability(report),
        "Learning curves": _learning(curves),
    }
    return {name: plot for name, plot in plots.items() if plot}


def _changes(report: Report) -> str:
    """Change of the main metric and its interval, a line for each kind of prompt."""
    figure, axes = _axes()
    metric = report.chosen_by
    prompts = [*report.tuned][::-1]
    for place, prompt in enumerate(prompts):
        change = report.tuned[prompt][metric] - report.untuned[prompt][metric]
        interval = report.interval(prompt, metric)
        color = {1: "#1a7f37", 0: "#6e7781", -1: "#cf222e"}[report.verdict(prompt, metric)]
        if interval is not None:
            axes.plot(interval, [place, place], color=color, linewidth=2.5, solid_capstyle="round")
        axes.plot([change], [place], "o", color=color, markersize=7)
    axes.axvline(0, color="#444", linewidth=0.8)
    axes.set_yticks(range(len(prompts)), [report.prompts.get(prompt, prompt) for prompt in prompts])
    axes.set_ylim(-0.6, len(prompts) - 0.4)
    better = "right" if report.metrics[metric]["higher_is_better"] else "left"
    axes.set_xlabel(f"tuned minus untuned; {better} of 0 is better")
    return _uri(figure)


def _corrected(report: Report) -> str:
    curves = {model: report.interactive[model]["j_and_f"] for model in COLORS if model in report.interactive}
    return _climb(curves, f"frames with {report.interactive.get('clicks')} clicks", "mean J&F")


def _climb(curves: Mapping[str, Sequence[float]], given: str, score: str) -> str:
    """A score after each of what was given, of both models."""
    if not curves or max(map(len, curves.values())) < 2:
        return ""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(given, score)
    for model, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, "o-", markersize=3, color=COLORS[model], label=model)
    axes.set_ylim(top=_ONE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="lower right")
    return _uri(figure)


def _jitter(report: Report) -> str:
    """Main metric against how far the corners of a box are off."""
    named = {name: name.removeprefix("box_") for name in report.tuned if name.startswith("box_")}
    errors = {"box": 0} | {name: int(number) for name, number in named.items()}
    if not named or "box" not in report.tuned:
        return ""
    figure, axes = _axes("corners off by up to, % of the box's sides", report.metrics[report.chosen_by]["title"])
    for model, scores in (("untuned", report.untuned), ("tuned", report.tuned)):
        points = sorted((error, scores[prompt][report.chosen_by]) for prompt, error in errors.items())
        axes.plot(*zip(*points, strict=True), "o-", markersize=4, color=COLORS[model], label=model)
    axes.legend(frameon=False)
    return _uri(figure)


def _sizes(report: Report) -> str:
    prompt = next(iter(report.tuned), None)
    if len(report.by_size) < 2 or prompt is None:
        return ""
    figure, axes = _axes("", report.metrics[report.chosen_by]["title"])
    for offset, model in ((-0.2, "untuned"), (0.2, "tuned")):
        values = [part[model].get(prompt, {}).get(report.chosen_by, 0) for part in report.by_size.values()]
        places = [place + offset for place in range(len(values))]
        axes.bar(places, values, 0.38, color=COLORS[model], label=model)
    names = [f"{name}\n{part['num_objects']} objects" for name, part in report.by_size.items()]
    axes.set_xticks(range(len(names)), names)
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return _uri(figure)


def _reliability(report: Report) -> str:
    prompt = next(iter(report.tuned), None)
    found = {model: by[prompt]["bins"] for model, by in report.calibration.items() if prompt in by}
    if not found:
        return ""
    figure, axes = _axes("IoU that the model predicts", "IoU that its masks have")
    axes.plot([0, 1], [0, 1], color="#bbb", linewidth=1, linestyle="--")
    for model, bins in found.items():
        total = sum(part["count"] for part in bins)
        places = [part["predicted"] for part in bins], [part["true"] for part in bins]
        sizes = [12 + 180 * part["count"] / total for part in bins]
        axes.plot(*places, color=COLORS[model], linewidth=1, label=model)
        axes.scatter(*places, sizes, color=COLORS[model], alpha=0.6, linewidths=0)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left")
    return _uri(figure)


def _learning(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    loss = curves.get("train/loss", ())
    scores = {name.removeprefix("val/"): points for name, points in curves.items() if name.startswith("val/")}
    if not scores:
        return ""
    figure, axes = _axes("step", "validation")
    for name, points in scores.items():
        axes.plot(*zip(*points, strict=True), "o-", markersize=3, label=name)
    if len(loss) > 1:
        right = axes.twinx()
        right.plot(*zip(*loss, strict=True), color="#bbb", linewidth=1)
        right.set_ylabel("training loss (gray)", fontsize=9)
        right.tick_params(labelsize=8)
        right.spines[["top"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return _uri(figure)


def _axes(x: str = "", y: str = "") -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#eee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _uri(figure: Figure) -> str:
    file = io.BytesIO()
    metadata: Any = {"Date": None}  # the same report is the same file
    figure.savefig(file, format="svg", metadata=metadata)
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
