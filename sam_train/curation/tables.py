"""A check on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from sam_train.curation.check import Check
from sam_train.curation.summary import SIDES, Counts
from sam_train.curation.suspicions import RULES, Suspicion

MANY_SMALL = 0.1  # of all objects
CATEGORIES = 20  # lines on a screen; the page has all


def show(check: Check, console: Console, side: int) -> None:
    """Print tables of the data and what is worth a look, then everything that is wrong.

    Args:
        check: What was found.
        console: Where to.
        side: Of the model's input, in pixels.
    """
    console.print(_splits(check))
    console.print(f"height x width: {_sizes(check)}", markup=False)
    if set(check.summary.categories) - {""}:
        console.print(_categories(check))
    named = ", ".join(f"{name}: {number:,}" for name, number in sides(check) if number)
    text = f"side: median, of a square of the same area in the model's input of {side} px. Objects by side: "
    console.print(f"{text}{named or 'none'}", markup=False)
    for line in remarks(check):
        console.print(line, markup=False)
    if check.findings.problems:
        console.print(check.findings.report(), style="red", markup=False)


def sides(check: Check) -> Iterator[tuple[str, int]]:
    """Yield each class of objects' sizes in the model's input and how many there are."""
    between = [f"{low}-{high} px" for low, high in pairwise(SIDES[1:])]
    names = [f"below {SIDES[1]} px", *between, f"{SIDES[-1]} px and more"]
    yield from zip(names, check.summary.sides.tolist(), strict=True)


def remarks(check: Check) -> Iterator[str]:
    """Yield in a line each what is worth a look and stops nothing."""
    yield from check.notes
    if text := small(check):
        yield text
    for kind, answers in check.findings.notices.items():
        yield f"{kind} ({len(answers)} of {check.findings.asked[kind]}): {min(answers).remedy}"
    if check.copies:
        yield f"same pixels in two splits ({len(check.copies)}): {_pair(check, 'copies')}"
    if check.alike:
        yield f"alike in two splits ({len(check.alike)}): {_pair(check, 'alike')}"
    if check.num_repeated:
        yield f"repeated within their split: {check.num_repeated:,} images"
    for rule, rows in check.suspects.items():
        number = int(check.scan.images["empty"].sum()) if rule == Suspicion.EMPTY else len(rows)
        name, says = RULES[rule]
        yield f"{name} ({number:,}): {says}"


def small(check: Check) -> str:
    """Return what to do about objects that are left out, where these are many; else an empty text."""
    counts = [split.counts for split in check.summary.splits.values()]
    left, number = sum(one.too_small for one in counts), sum(one.objects for one in counts)
    if left < MANY_SMALL * max(number, 1):
        return ""
    remedy = "a larger model.image_size, or images cut into tiles, would keep them"
    return f"{left:,} of {number:,} objects are below loader.min_area in the model's input and left out: {remedy}"


def _pair(check: Check, which: str) -> str:
    one, other = getattr(check, which)[0]
    return f"such as {check.scan.name(one)} and {check.scan.name(other)}"


def _splits(check: Check) -> Table:
    table = _table("split", "images", "no object", "objects", "crowds", "too small", "side")
    for name, split in check.summary.splits.items():
        table.add_row(name, f"{split.images:,}", f"{split.without:,}", *columns(split.counts))
    return table


def _sizes(check: Check) -> str:
    """Return the smallest and the largest size of each split's images."""
    found = {}
    for name, split in check.summary.splits.items():
        found[name] = " to ".join(dict.fromkeys(f"{height} x {width}" for height, width in split.sizes[::2]))
    return "; ".join(f"{name} {size or '-'}" for name, size in found.items())


def _categories(check: Check) -> Table:
    names = list(check.summary.splits)
    table = _table("category", *names, "crowds", "too small", "side")
    categories = list(check.summary.categories.items())
    for name, (each, counts) in categories[:CATEGORIES]:
        table.add_row(name, *(f"{each[split]:,}" for split in names), *columns(counts)[1:])
    if len(categories) > CATEGORIES:
        table.add_row(f"... and {len(categories) - CATEGORIES} more")
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(first, box=SIMPLE)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def columns(counts: Counts) -> tuple[str, ...]:
    """Return numbers of objects as texts."""
    side = "-" if counts.side is None else f"{counts.side:.0f} px"
    return f"{counts.objects:,}", f"{counts.crowds:,}", f"{counts.too_small:,}", side
