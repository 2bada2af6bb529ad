"""How many cores and how much memory this machine, or the container on it, can still give."""

import os
from pathlib import Path

ROOT = Path("/")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory(root: Path = ROOT) -> int:
    """Bytes that can be used without swapping: what the kernel says, within the limit of the control group.

    Where there is no /proc, all of the machine's memory is taken for available.
    """
    try:
        fields = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([available, *_left_in_control_group(root / "sys/fs/cgroup")])


def _left_in_control_group(folder: Path) -> list[int]:
    """Version 2 has both files at the top, version 1 in a folder; without a limit the list is empty."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            allowed, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        except OSError:
            continue
        return [max(0, int(allowed) - used)] if allowed.isdigit() else []
    return []
