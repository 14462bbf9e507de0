"""Progress of work that is part of other work: the tiles of an image, the slices of a volume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import Progress

T = TypeVar("T")


def watched(items: Iterable[T], total: int, progress: Progress | None, what: str) -> Iterator[T]:
    """Yield all items, with a line of progress as long as there are more; none for a single one.

    Args:
        items: To be worked on.
        total: How many they are.
        progress: Shows it; None for nobody who watches.
        what: What they are called.
    """
    if progress is None or total < 2:
        yield from items
        return
    task = progress.add_task(what, total=total)
    try:
        for item in items:
            yield item
            progress.advance(task)
    finally:
        progress.remove_task(task)
