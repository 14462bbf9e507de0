"""Everything that is wrong with the data, told at once and before training."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from sam_train.data.sources.base import ImageSet, Split
from sam_train.errors import InputError, Problem
from sam_train.machine import num_processors

LINES_PER_KIND = 10  # what one screen holds; the counts are always complete
DOUBTFUL = "one number, many pieces"  # a kind of problem that is none where it is the exception
PATIENCE_S = 2.0  # a scan that is over sooner needs no progress bar
_IMAGES_PER_TASK = 8
_MOST_THREADS = 8  # each may hold a huge image


def check_sources(sources: Mapping[Split, ImageSet]) -> None:
    """Read every image and mask of every split once.

    Threads, because decoding releases Python's lock; a progress bar on a terminal, if it takes long enough.

    Raises:
        InputError: If anything is wrong; lists every problem, by kind.
    """
    distinct = {id(source): source for source in sources.values()}.values()  # a split may serve twice
    num_images = sum(len(source) for source in distinct)
    tasks = [
        (source, range(len(source))[first : first + _IMAGES_PER_TASK])
        for source in distinct
        for first in range(0, len(source), _IMAGES_PER_TASK)
    ]
    pool = ThreadPoolExecutor(min(num_processors(), _MOST_THREADS))
    try:
        scanned = pool.map(_problems, *zip(*tasks, strict=True)) if tasks else iter(())
        problems = [problem for found in _with_progress(scanned, num_images) for some in found for problem in some]
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest of the scan
    certain = [problem for problem in problems if problem.kind != DOUBTFUL]
    if 2 * (len(problems) - len(certain)) < num_images:
        problems = certain
    if problems:
        raise InputError(_report(dict.fromkeys(problems)))


def _problems(source: ImageSet, indices: range) -> list[list[Problem]]:
    return [source.problems(index) for index in indices]


def _with_progress(tasks: Iterator[list[list[Problem]]], num_images: int) -> Iterator[list[list[Problem]]]:
    """The same tasks' results, with a bar on the terminal once the scan turns out to be long."""
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


def _report(problems: Iterable[Problem]) -> str:
    """Problems by kind, each remedy once, no kind longer than a screen."""
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind, problem.remedy].append(f"{problem.path}: {problem.found}")
    lines = [f"the data has {sum(map(len, kinds.values()))} problem(s):"]
    for (kind, remedy), files in sorted(kinds.items()):
        lines += ["", f"{kind} ({len(files)}): {remedy}"]
        lines += [f"  {file}" for file in sorted(files)[:LINES_PER_KIND]]
        if len(files) > LINES_PER_KIND:
            lines.append(f"  ... and {len(files) - LINES_PER_KIND} more")
    return "\n".join(lines)
