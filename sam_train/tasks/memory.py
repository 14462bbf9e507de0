"""How much memory a device has to give and a step takes."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable

import psutil
import torch


def free_bytes(device: torch.device) -> int:
    """What this process can still allocate: of the GPU, or of the machine's memory."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """How much more is held at the height of a step than before it.

    On a CPU this is what the system sees of the process: exact to a few megabytes, and only for a step that has run
    before, since libraries are loaded and tables made in the first.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    _give_back_freed()
    process, is_done = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not is_done.wait(0.002):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        step()
    finally:
        is_done.set()
        watcher.join()
    return highest - before


def _give_back_freed() -> None:
    """Freed memory to the system, where the C library can: else it would still count as held."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
