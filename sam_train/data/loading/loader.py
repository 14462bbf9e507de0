"""Loading in other processes: batches, and errors of files with all they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset

from sam_train.data.loading.collate import collate
from sam_train.data.loading.sampler import TrainBatches
from sam_train.data.sources.skipping import SkippedError
from sam_train.errors import InputError
from sam_train.structures import Batch


class _ErrorsAsItems(Dataset[Batch | InputError]):
    """Returns errors instead of raising them: what a loading process raises arrives as text only."""

    def __init__(self, dataset: Dataset[Batch]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # pyright: ignore[reportArgumentType]

    def __getitem__(self, key: Any) -> Batch | InputError:
        try:
            return self.dataset[key]
        except InputError as error:
            return error


def _collate(items: Sequence[Any], merge: Callable[[Sequence[Any]], Any]) -> Any:
    """Return one batch of the items that are not left out; None where all are; or a mistake."""
    kept = [item for item in items if not isinstance(item, SkippedError)]
    mistake = next((item for item in kept if isinstance(item, InputError)), None)
    return mistake or (merge(kept) if kept else None)


class BatchLoader(DataLoader[Batch]):
    """A loader of packed batches, without what is left out (:mod:`sam_train.data.sources.skipping`).

    Args:
        dataset: Of batches of one image or clip.
        batch_size: Images or clips of a batch.
        merge: Makes one batch of several.
        options: Of :class:`torch.utils.data.DataLoader`.

    Raises:
        InputError: In the iterating process, with all it says of the file, where reading an image failed.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int | None = 1,
        merge: Callable[[Sequence[Any]], Any] = collate,
        **options: Any,
    ) -> None:
        super().__init__(_ErrorsAsItems(dataset), batch_size, collate_fn=partial(_collate, merge=merge), **options)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        for batch in super().__iter__():
            if isinstance(batch, InputError):
                raise batch
            if batch is not None:
                yield batch


class ResumableLoader(BatchLoader):
    """A loader that can continue in the middle of an epoch; its state is the number of batches yielded so far."""

    def __init__(self, dataset: Dataset[Any], batches: TrainBatches, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self.batches = batches
        self.seen = 0

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.batches.start = self.seen
        for batch in super().__iter__():
            self.seen += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches yielded so far."""
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the number of batches that the state names."""
        self.seen = state["seen"]
