"""How much of the machine this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def num_processors() -> int:
    """Processors this process may run on; on a cluster these are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory this process may use: of the machine, or of the container or cluster job it runs in.

    All of it, whatever is in use at the moment: what is planned by it does not depend on what else runs.
    """
    import psutil

    return min(psutil.virtual_memory().total, *_limits_of_groups())


def _limits_of_groups(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Limits of Linux's control groups that this process is in, by the files of either version; nothing elsewhere."""
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, kinds, path = line.split(":", 2)
        top, limit = (root / "memory", "memory.limit_in_bytes") if kinds else (root, "memory.max")
        own = top / path.strip("/")
        for folder in (own, *own.parents) if kinds in ("", "memory") else ():
            if folder.is_relative_to(top) and (folder / limit).is_file():
                most = (folder / limit).read_text().strip()
                if most != "max":
                    yield int(most)
