"""How much memory a device has to give and a step takes."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch


def free_bytes(device: torch.device) -> int:
    """What can still be allocated: of the GPU, or of the memory of the machine or of the container or job on it."""
    if device.type != "cuda":
        return min(psutil.virtual_memory().available, *_left_to_groups())
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def _left_to_groups(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What Linux's control groups leave to this process, by the files of either version; nothing elsewhere.

    Each group above the process's own has a limit, too. Files that the system keeps in memory count as used there, but
    make room when it is wanted.
    """
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, kinds, path = line.split(":", 2)
        top, limit, usage, cached = root, "memory.max", "memory.current", ("active_file", "inactive_file")
        if kinds:
            top, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_active_file", "total_inactive_file"
        own = top / path.strip("/")
        for folder in (own, *own.parents) if kinds in ("", "memory") else ():
            if folder.is_relative_to(top) and (folder / limit).is_file():
                most = (folder / limit).read_text().strip()
                if most != "max":
                    facts = dict(fact.split() for fact in (folder / "memory.stat").read_text().splitlines())
                    kept = sum(int(facts.get(name, 0)) for name in cached)
                    yield max(int(most) - int((folder / usage).read_text()) + kept, 0)


def peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """How much more is held at the height of a step than before it.

    On a CPU this is what the system sees of the process: exact to a few megabytes, and only for a step that has run
    before, since libraries are loaded and tables made in the first. Beside Linux freed memory may still count as held
    before the step, and the result is too small by that.
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
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
