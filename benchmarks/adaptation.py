"""Small adaptations of the default model on real images: untuned, decoder, LoRA and full tuning, and random weights.

Every run is a ``python train.py`` of its own with the defaults of the command line and the same few steps; it tests
the last weights (the only validation is at the end, on a few images). All seeds have the same test images. Runs whose
``report.json`` is there are not repeated, so the script can be stopped and started again. Checkpoints are removed.

python -m benchmarks.adaptation --data DATA [--sets balloon ...] [--tunings lora ...] [--seeds 0 1 2] [--steps 60]
    [--jobs 2] [--out outputs/adaptation] [--settings optim.lr=1e-3 ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console

from benchmarks.real_sets import SETS, overrides, show
from sam_train.prompts.protocols import EVALUATION

REPOSITORY = Path(__file__).resolve().parents[1]
TUNINGS = {
    "decoder": ("tuning=frozen",),
    "lora": ("tuning=lora",),
    "full": ("tuning=full",),
    "scratch": ("tuning=full", "model.weights=random"),
}
CHEAP = (
    "evaluation.overlays=0",
    "loader.num_workers=0",
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
    "callbacks.resume_point=null",
    "+callbacks.best.save_weights_only=true",
    "loader.max_val_images=2",
)
"""Nothing of this changes what is trained or tested."""
METRICS = {"iou": "IoU", "dice": "Dice"}
LOG_LINES = 8  # shown of a run that failed


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        data: Name of the set.
        tuning: Which of :data:`TUNINGS`.
        seed: Of everything random but the split.
        folder: Where everything of it goes.
        settings: Its command line.
    """

    data: str
    tuning: str
    seed: int
    folder: Path
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.data} {self.tuning} seed {self.seed}"

    @property
    def is_done(self) -> bool:
        """Whether its report is there."""
        return (self.folder / "report.json").is_file()

    def report(self) -> dict[str, Any]:
        """See :class:`sam_train.evaluation.report.Report`; ``seconds`` of the processor are what the run took."""
        own = json.loads((self.folder / "run.json").read_text())
        return {**json.loads((self.folder / "report.json").read_text()), "seconds": own["seconds"]}

    def require_same_settings(self) -> None:
        """Refuse to show an earlier run as what the command line asks for.

        Raises:
            SystemExit: If it had other settings.
        """
        before = json.loads((self.folder / "run.json").read_text())["settings"]
        if before != [*self.settings]:
            differing = sorted({*before} ^ {*self.settings})
            raise SystemExit(f"{self.folder} is of other settings ({', '.join(differing)}); give another --out")

    def train(self) -> bool:
        """Run it on one thread; whether it came to its report."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "train.py", *self.settings, f"hydra.run.dir={self.folder}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.folder / "log.txt").open("w") as log:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT)
            usage = os.wait4(process.pid, 0)[2]
        facts = {"settings": self.settings, "seconds": usage.ru_utime + usage.ru_stime}
        (self.folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
        for checkpoint in self.folder.glob("*.ckpt"):
            checkpoint.unlink()
        return self.is_done


def runs(options: argparse.Namespace) -> list[Run]:
    """All that is asked for; first all of one seed."""
    data, out = options.data.absolute(), options.out.absolute()
    own = {name: overrides(name, data, out) for name in options.sets}
    length = (f"trainer.max_steps={options.steps}", f"trainer.val_check_interval={options.steps}")
    return [
        Run(
            name,
            tuning,
            seed,
            out / name / tuning / f"seed{seed}",
            (*own[name], *TUNINGS[tuning], f"seed={seed}", *length, *CHEAP, *options.settings),
        )
        for seed in options.seeds
        for name in options.sets
        for tuning in options.tunings
    ]


def train_all(todo: Sequence[Run], jobs: int, console: Console) -> list[Run]:
    """Train side by side; those that failed. Ctrl-C ends what is running and starts nothing more."""
    failed = []
    pool = ThreadPoolExecutor(jobs)
    try:
        started = {pool.submit(run.train): run for run in todo}
        for number, future in enumerate(as_completed(started), start=1):
            run = started[future]
            if future.result():
                report = run.report()
                gains = (
                    f"{prompt} {report['untuned'][prompt]['iou']:.3f} > {scores['iou']:.3f}"
                    for prompt, scores in report["tuned"].items()
                )
                console.print(f"{number}/{len(todo)} {run}: {report['seconds']:.0f} s, IoU {', '.join(gains)}")
            else:
                failed.append(run)
                console.print(f"{number}/{len(todo)} {run}: [red]failed[/], the end of {run.folder / 'log.txt'}:")
                console.print("\n".join((run.folder / "log.txt").read_text().splitlines()[-LOG_LINES:]), markup=False)
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


Reports = Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]
"""Of each set, of each tuning, one for each seed."""


def gather(done: Iterable[Run]) -> Reports:
    """The reports of all runs that have one."""
    reports: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for run in done:
        reports[run.data][run.tuning].append(run.report())
    return reports


def columns(of_set: Mapping[str, Sequence[dict[str, Any]]], prompt: str, metric: str) -> dict[str, list[float]]:
    """The scores of each seed, untuned first; all runs from the same weights have the same untuned score."""
    base = [report["untuned"] for tuning in of_set if tuning != "scratch" for report in of_set[tuning]]
    tuned = {tuning: [report["tuned"] for report in of_set.get(tuning, ())] for tuning in TUNINGS}
    return {
        name: [scores[prompt][metric] for scores in seeds] for name, seeds in {"untuned": base[:1], **tuned}.items()
    }


def cell(values: Sequence[float]) -> str:
    """Mean and, of several, their sample standard deviation."""
    if not values:
        return "-"
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def show_scores(reports: Reports) -> None:
    """One table for each kind of prompt."""
    for prompt in EVALUATION:
        rows = []
        for name, of_set in reports.items():
            some = next(iter(of_set.values()))[0]
            for metric, title in METRICS.items():
                cells = map(cell, columns(of_set, prompt, metric).values())
                rows.append([name, f"{some['num_images']} / {some['num_objects']}", title, *cells])
        show(f"prompt: {prompt}", ["set", "images / objects", "score", "untuned", *TUNINGS], rows)


def show_seconds(reports: Reports) -> None:
    """What the runs took of one thread, whatever else ran on the machine; means over seeds."""
    rows = []
    for name, of_set in reports.items():
        seconds = ([report["seconds"] for report in of_set.get(tuning, ())] for tuning in TUNINGS)
        rows.append([name, *(f"{fmean(values):.0f}" if values else "-" for values in seconds)])
    show("processor seconds of a run, test included", ["set", *TUNINGS], rows)


def show_verdict(reports: Reports) -> None:
    """Where neither the decoder's tuning nor LoRA's beats both the untuned model and random weights, by mean IoU."""
    behind, number = [], 0
    for name, of_set in reports.items():
        for prompt in EVALUATION:
            means = {key: fmean(values) for key, values in columns(of_set, prompt, "iou").items() if values}
            tuned = [means[key] for key in ("decoder", "lora") if key in means]
            others = [means[key] for key in ("untuned", "scratch") if key in means]
            if tuned and len(others) == 2:
                number += 1
                behind += [f"{name} {prompt}"] if max(tuned) <= max(others) else []
    print(f"decoder or LoRA ahead of untuned and scratch in {number - len(behind)} of {number}")
    if behind:
        print(f"not: {', '.join(behind)}")


def main() -> None:
    """Train what is not there yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=SETS)
    parser.add_argument("--tunings", nargs="+", default=[*TUNINGS], choices=TUNINGS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, each on one thread")
    parser.add_argument("--out", type=Path, default=Path("outputs/adaptation"))
    parser.add_argument("--settings", nargs="+", default=[], help="more key=value for every run")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    asked = runs(options)
    for run in asked:
        if run.is_done:
            run.require_same_settings()
    todo = [run for run in asked if not run.is_done]
    console.print(f"{len(asked) - len(todo)} of {len(asked)} runs are there already")
    failed = train_all(todo, options.jobs, console)
    if reports := gather(run for run in asked if run.is_done):
        show_scores(reports)
        show_seconds(reports)
        show_verdict(reports)
    if failed:
        raise SystemExit(f"failed: {', '.join(map(str, failed))}")


if __name__ == "__main__":
    main()
