"""How much of the machine this process may use."""

from __future__ import annotations

import os


def num_processors() -> int:
    """Processors this process may run on; on a cluster these are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
