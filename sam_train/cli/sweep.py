"""The end of a sweep (``sam-train -m``): its runs side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from rich.table import Table

    from sam_train.evaluation.report import Report


class SweepTable(Callback):
    """Shows the runs of a sweep in one table: the settings that differ and the scores, or that it failed."""

    def __init__(self) -> None:
        self._begin = time.time()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the runs' folders: whoever launched them, they are all there."""
        from lightning.pytorch.utilities import rank_zero_only
        from rich.console import Console

        from sam_train.evaluation.report import Report

        if getattr(rank_zero_only, "rank", 0):
            return
        folder = Path(config.hydra.sweep.dir)
        typed = (path for path in folder.glob("*/.hydra/overrides.yaml") if path.stat().st_mtime >= self._begin - 1)
        runs = sorted((path.parents[1] for path in typed), key=lambda run: (len(run.name), run.name))
        reports: dict[str, Report | None] = {}
        for run in runs:
            path = run / "report.json"
            is_done = path.is_file() and path.stat().st_mtime >= self._begin - 1  # no earlier sweep's
            reports[run.name] = Report(**json.loads(path.read_text())) if is_done else None
        console = Console()
        if done := [report for report in reports.values() if report]:
            console.print(table(reports, {run.name: _settings(run) for run in runs}))
            console.print(f"runs        {folder}", markup=False)
            if done[0].split == "test":
                console.print("the best of several looks better than it is; choose by evaluation.split=val")


def _settings(run: Path) -> dict[str, str]:
    """What was typed for this run, key by key."""
    typed = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "overrides.yaml"))
    assert isinstance(typed, list)
    return {key: value for key, _, value in (override.partition("=") for override in typed)}


def table(reports: Mapping[str, Report | None], settings: Mapping[str, Mapping[str, str]]) -> Table:
    """Make one row for each run: its main metric and the change, the best of each kind of prompt in bold.

    Args:
        reports: By the name of the run's folder; None of those that failed, of which there is one that did not.
        settings: What was typed for each run; shown is what is not the same for all.
    """
    from rich.markup import escape
    from rich.table import Table

    done = [report for report in reports.values() if report]
    keys = dict.fromkeys(key for typed in settings.values() for key in typed)
    differing = [key for key in keys if len({typed.get(key) for typed in settings.values()}) > 1]
    metric, prompts = done[0].chosen_by, [*done[0].tuned]
    told = done[0].metrics[metric]
    table = Table(title=f"tuned {told['title']} and change from the untuned model ({done[0].split})")
    for column in ("run", *differing):
        table.add_column(column, overflow="fold")
    for prompt in prompts:
        table.add_column(prompt, justify="right")
    better = max if told["higher_is_better"] else min
    best = {prompt: better(report.tuned[prompt][metric] for report in done) for prompt in prompts}
    for name, report in reports.items():
        cells = ["[red]failed[/]"]
        if report:
            cells = []
            for prompt in prompts:
                before, after = report.untuned[prompt][metric], report.tuned[prompt][metric]
                style = "bold" if after == best[prompt] else "none"
                cells.append(f"[{style}]{after:.3f}[/] {after - before:+.3f}")
        table.add_row(name, *(escape(settings[name].get(key, "")) for key in differing), *cells)
    return table
