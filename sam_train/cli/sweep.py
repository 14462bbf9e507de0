"""The end of a sweep (``sam-train -m``): its runs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from rich.table import Table

    from sam_train.evaluation.report import Report


class SweepTable(Callback):
    """Shows every finished run of a sweep in one table: the settings that differ and the scores."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the runs' folders: whoever launched them, they are all there."""
        from rich.console import Console

        from sam_train.evaluation.report import Report

        folder = Path(config.hydra.sweep.dir)
        paths = sorted(folder.glob("*/report.json"), key=lambda path: (len(path.parent.name), path.parent.name))
        if not paths:
            return
        reports = [Report(**json.loads(path.read_text())) for path in paths]
        console = Console()
        console.print(table([path.parent.name for path in paths], [_settings(path.parent) for path in paths], reports))
        console.print(f"runs        {folder}", markup=False)
        if any(report.split == "test" for report in reports):
            console.print(
                "the best of several on test images looks better than it is; evaluation.split=val to choose by"
            )


def _settings(run: Path) -> dict[str, str]:
    """What was typed for this run, key by key."""
    typed = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "overrides.yaml"))
    assert isinstance(typed, list)
    return {key: value for key, _, value in (override.partition("=") for override in typed)}


def table(names: Sequence[str], settings: Sequence[Mapping[str, str]], reports: Sequence[Report]) -> Table:
    """One row for each run: tuned IoU and its gain, the best of each kind of prompt in bold.

    Args:
        names: Of the runs' folders.
        settings: What was typed for each run; shown is what is not the same for all.
        reports: Of each run.
    """
    from rich.markup import escape
    from rich.table import Table

    keys = dict.fromkeys(key for typed in settings for key in typed)
    differing = [key for key in keys if len({typed.get(key) for typed in settings}) > 1]
    prompts = [*reports[0].tuned]
    table = Table(title=f"tuned IoU and gain over the untuned model ({reports[0].split})")
    for column in ("run", *differing):
        table.add_column(column, overflow="fold")
    for prompt in prompts:
        table.add_column(prompt, justify="right")
    best = {prompt: max(report.tuned[prompt]["iou"] for report in reports) for prompt in prompts}
    for name, typed, report in zip(names, settings, reports, strict=True):
        cells = []
        for prompt in prompts:
            before, after = report.untuned[prompt]["iou"], report.tuned[prompt]["iou"]
            style = "bold" if after == best[prompt] else "none"
            cells.append(f"[{style}]{after:.3f}[/] {after - before:+.3f}")
        table.add_row(name, *(escape(typed.get(key, "")) for key in differing), *cells)
    return table
