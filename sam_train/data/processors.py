"""How much of the machine is ours."""

from __future__ import annotations

import os


def num_processors() -> int:
    """Those this process may run on, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
