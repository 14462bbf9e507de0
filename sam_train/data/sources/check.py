"""The check of all data before training, which tells every problem at once."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

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
    problems: list[Problem] = []
    questions: dict[str, list[Answer]] = defaultdict(list)
    for problem in _scan(sources):
        if isinstance(problem, Answer):
            questions[problem.kind].append(problem)
        else:
            problems.append(problem)
    for answers in questions.values():
        yes = [answer for answer in answers if answer.holds]
        if isinstance(answers[0], Doubt) and 2 * len(yes) >= len(answers):
            problems += yes
    if problems:
        raise InputError(_report(dict.fromkeys(problems), questions))
    for kind, answers in questions.items():
        yes = [answer for answer in answers if answer.holds]
        if yes and not isinstance(answers[0], Doubt):
            first = min(yes)
            text = f"{kind} ({len(yes)} of {len(answers)}): {first.remedy}; such as {first.path}: {first.found}"
            warnings.warn(text, stacklevel=2)


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


def _report(problems: Iterable[Problem], questions: Mapping[str, Sequence[Answer]]) -> str:
    """Return the text of all problems by kind, each remedy once, no kind longer than a screen."""
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind, problem.remedy].append(f"{problem.path}: {problem.found}")
    lines = [f"the data has {sum(map(len, kinds.values()))} problem(s):"]
    for (kind, remedy), files in sorted(kinds.items()):
        number = f"{len(files)} of {len(questions[kind])}" if kind in questions else len(files)
        lines += ["", f"{kind} ({number}): {remedy}"]
        lines += [f"  {file}" for file in sorted(files)[:LINES_PER_KIND]]
        if len(files) > LINES_PER_KIND:
            lines.append(f"  ... and {len(files) - LINES_PER_KIND} more")
    return "\n".join(lines)
