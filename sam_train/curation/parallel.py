"""Work on many images, shared out among processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from sam_train.machine import num_processors

T = TypeVar("T")
_MOST_PROCESSES = 16  # each may hold a huge image; disks are no faster for more


class _Results(Dataset[Any]):
    """The result of each task, as a data set: its loader's processes do the work."""

    def __init__(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> None:
        self.function = function
        self.tasks = tasks

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.tasks[index])


def in_processes(function: Callable[[Any], T], tasks: Sequence[Any]) -> Iterator[T]:
    """Yield the result of each task, in order, while other processes work on the next ones.

    Only few results wait at a time, so that memory does not grow with the number of tasks. One task, or one processor,
    is done in this process.

    Args:
        function: What to do; picklable, as are tasks and results.
        tasks: What to do it with.
    """
    number = min(num_processors(), _MOST_PROCESSES, len(tasks))
    results = _Results(function, tasks)
    yield from DataLoader(results, batch_size=None, collate_fn=_same, num_workers=number if number > 1 else 0)


def _same(result: T) -> T:
    return result
