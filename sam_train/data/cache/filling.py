"""Fills an embedding cache in one pass before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from torch.utils.data import Dataset

from sam_train.data.cache.embedding_cache import EmbeddingCache, Layout
from sam_train.data.loading.collate import collate, to_batch
from sam_train.data.loading.loader import BatchLoader
from sam_train.data.loading.share import Share
from sam_train.data.loading.views import ViewIndex, Views
from sam_train.structures import Batch, EncoderState, ImageFeatures, Sample

Encode = Callable[[Batch], ImageFeatures | EncoderState]


def fill(
    cache: EmbeddingCache,
    datasets: Sequence[Views],
    encode: Encode,
    batch_size: int = 1,
    num_workers: int = 0,
    share: Share | None = None,
) -> None:
    """Compute and store the entries that are missing or incomplete; whole entries stay.

    All processes of a run call this function at once; it returns when all are done. The number of missing entries and
    their size are printed beforehand.

    Args:
        cache: Receives the entries.
        datasets: The images.
        encode: From a batch's images to their features, on any device.
        batch_size: Number of images encoded at once.
        num_workers: Number of processes that read images.
        share: Share of this process; by default everything.

    Raises:
        InputError: In all processes, before anything is computed, if the disk is too small; in one process, if an image
            cannot be read.
    """
    share = share or Share()
    layout = cache.layout()
    missing = [
        (views, [key for key in _share(views, share) if not _is_kept(cache, views, key, layout)]) for views in datasets
    ]
    total = share.total(sum(len(keys) for _, keys in missing))
    if not total:
        return
    layout = layout or cache.set_layout(encode(_blank(datasets[0])))
    num_bytes = total * cache.num_bytes(layout)
    free = cache.require_space(num_bytes)
    console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=share.rank > 0)
    console.print(
        f"embedding cache: {total} embeddings to compute, {num_bytes / 1e9:.2f} GB in {cache.place} "
        f"({free / 1e9:.0f} GB free)"
    )
    with _bar(console) as bar:
        row = bar.add_task("encoding images", total=sum(len(keys) for _, keys in missing))
        for views, keys in missing:
            named = _Named(views)
            loader: Any = BatchLoader(named, batch_size, merge=_collate_named, sampler=keys, num_workers=num_workers)
            for names, batch in loader:
                _keep(cache, names, encode(batch), batch)
                bar.advance(row, len(names))
    share.total(0)


class _Named(Dataset[tuple[str, Batch]]):
    """Views and the names of their entries: some of a batch may be left out."""

    def __init__(self, views: Views) -> None:
        self.views = views

    def __getitem__(self, key: ViewIndex) -> tuple[str, Batch]:
        view, index = key
        return self.views.name(index, view), self.views[key]


def _collate_named(items: Sequence[tuple[str, Batch]]) -> tuple[list[str], Batch]:
    return [name for name, _ in items], collate([batch for _, batch in items])


def _share(views: Views, share: Share) -> list[ViewIndex]:
    return list(views.indices())[share.rank :: share.world_size]


def _is_kept(cache: EmbeddingCache, views: Views, key: ViewIndex, layout: Layout | None) -> bool:
    view, index = key
    return layout is not None and cache.holds(views.name(index, view), layout)


def _blank(views: Views) -> Batch:
    """Return a batch of one empty image, from which the shapes of all entries follow."""
    side = views.preprocessing.image_size
    nothing = torch.zeros(0, dtype=torch.long)
    image, labels = torch.zeros(3, side, side, dtype=torch.uint8), torch.zeros(1, side, side, dtype=torch.uint8)
    return to_batch(Sample("blank", image, labels, nothing, nothing), views.preprocessing, (side, side))


def _keep(cache: EmbeddingCache, names: Sequence[str], features: ImageFeatures | EncoderState, batch: Batch) -> None:
    for image, name in enumerate(names):
        cache.write(name, features.image(image), batch.original_size[image])


def _bar(console: Console) -> Progress:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
