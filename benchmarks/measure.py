"""Time in turns and memory in processes of their own, so that comparisons hold on a noisy machine."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import psutil
import torch

Step = Callable[[], object]


Clock = Literal["wall", "processor"]
"""Seconds by the wall or of all processors: the latter where other work runs on the machine."""


def seconds(steps: Mapping[str, Step], rounds: int = 5, clock: Clock = "wall") -> dict[str, float]:
    """Return the median time of each step; the steps take turns, after one round that is not counted."""
    now = time.perf_counter if clock == "wall" else time.process_time
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            start = now()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times[name].append(now() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_megabytes(build: Callable[[], Step]) -> float:
    """How much memory a step needs at its peak beyond what is held before it, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (build,))


def _peak(build: Callable[[], Step]) -> float:
    step = build()
    step()  # what it imports and sets up once is not the step's
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return peak_bytes(step, device) / 2**20


def peak_bytes(step: Step, device: torch.device) -> int:
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
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)  # freed memory would still count as held
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


def machine() -> str:
    """What the numbers were measured on."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        name = f"{torch.get_num_threads()} threads of {name}"
    return f"{name}, torch {torch.__version__}"
