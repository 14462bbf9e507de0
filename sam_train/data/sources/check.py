"""The check of all data before training, which tells every problem at once."""

from __future__ import annotations

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.doubts import Answer, Doubt
from sam_train.errors import InputError, Problem
from sam_train.machine import num_processors

LINES_PER_KIND = 10  # what one screen holds; the counts are always complete
PATIENCE_S = 2.0  # a scan that is over sooner needs no progress bar
_IMAGES_PER_TASK = 8
_MOST_THREADS = 8  # each may hold a huge image


def check_sources(sources: Mapping[Split, ImageSet]) -> None:
    """Read every image and mask of every split once, and judge questions about the whole set by all the answers.

    Notices that apply are warnings. A progress bar shows on a terminal if the check takes long.

    Raises:
        InputError: If anything is wrong, or a doubt applies to most of the data; lists every problem, by kind.
    """
    findings = judge(_scan(sources))
    if findings.problems:
        raise InputError(findings.report())
    for kind, answers in findings.notices.items():
        first = min(answers)
        text = f"{kind} ({len(answers)} of {findings.asked[kind]}): {first.remedy}; such as {first.path}: {first.found}"
        warnings.warn(text, stacklevel=2)


@dataclass(frozen=True)
class Findings:
    """What is wrong with all images together.

    Attributes:
        problems: Everything that stops training, each once.
        notices: What stops nothing and a person should know, by kind.
        asked: How many images were asked, by the kind of the question.
    """

    problems: tuple[Problem, ...]
    notices: Mapping[str, Sequence[Answer]]
    asked: Mapping[str, int]

    def by_kind(self) -> dict[tuple[str, str], list[Problem]]:
        """Return the problems of each kind and remedy, both in order."""
        kinds: dict[tuple[str, str], list[Problem]] = defaultdict(list)
        for problem in sorted(self.problems, key=lambda one: (one.kind, one.remedy, one.path, one.found)):
            kinds[problem.kind, problem.remedy].append(problem)
        return kinds

    def report(self) -> str:
        """Return the text of all problems by kind, each remedy once, no kind longer than a screen."""
        lines = [f"the data has {len(self.problems)} problem(s):"]
        for (kind, remedy), files in self.by_kind().items():
            number = f"{len(files)} of {self.asked[kind]}" if kind in self.asked else len(files)
            lines += ["", f"{kind} ({number}): {remedy}"]
            lines += [f"  {file.path}: {file.found}" for file in files[:LINES_PER_KIND]]
            if len(files) > LINES_PER_KIND:
                lines.append(f"  ... and {len(files) - LINES_PER_KIND} more")
        return "\n".join(lines)


def judge(found: Iterable[Problem]) -> Findings:
    """Judge what :meth:`ImageSet.problems` found in all images; a doubt is a problem if half of the answers say so."""
    problems: list[Problem] = []
    asked: Counter[str] = Counter()
    doubts: dict[str, list[Answer]] = defaultdict(list)
    notices: dict[str, list[Answer]] = defaultdict(list)
    for problem in found:
        if not isinstance(problem, Answer):
            problems.append(problem)
            continue
        asked[problem.kind] += 1
        if problem.holds:
            (doubts if isinstance(problem, Doubt) else notices)[problem.kind].append(problem)
    for kind, yes in doubts.items():
        if 2 * len(yes) >= asked[kind]:
            problems += yes
    return Findings(tuple(dict.fromkeys(problems)), notices, asked)


def _scan(sources: Mapping[Split, ImageSet]) -> Iterator[Problem]:
    """Yield the problems of every image. Threads read them, because decoding releases Python's lock."""
    distinct = {id(source): source for source in sources.values()}.values()  # a split may serve twice
    tasks = [
        (source, range(len(source))[first : first + _IMAGES_PER_TASK])
        for source in distinct
        for first in range(0, len(source), _IMAGES_PER_TASK)
    ]
    if not tasks:
        return
    pool = ThreadPoolExecutor(min(num_processors(), _MOST_THREADS))
    try:
        scanned = pool.map(_problems, *zip(*tasks, strict=True))
        for found in _with_progress(scanned, sum(len(source) for source in distinct)):
            for problems in found:
                yield from problems
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest of the scan


def _problems(source: ImageSet, indices: range) -> list[list[Problem]]:
    return [source.problems(index) for index in indices]


def _with_progress(tasks: Iterator[list[list[Problem]]], num_images: int) -> Iterator[list[list[Problem]]]:
    """Yield the results of the tasks, with a bar on the terminal once the scan turns out to be long."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    row = bar.add_task("checking images and masks", total=num_images)
    start, shown = time.monotonic(), False
    try:
        for found in tasks:
            bar.advance(row, len(found))
            if not shown and console.is_terminal and time.monotonic() - start >= PATIENCE_S:
                bar.start()
                shown = True
            yield found
    finally:
        if shown:
            bar.stop()
