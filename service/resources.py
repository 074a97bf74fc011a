"""What the machine, or the control group that the process is in, gives: cores and memory."""

import os
from pathlib import Path

__all__ = ["available_bytes", "cores"]

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def cores(cgroup: Path = _CGROUP) -> int:
    """How many cores this process may use: of those it is bound to, no more than its control group's quota."""
    bound = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not (quota.isdigit() and period.strip().isdigit()):
        return bound
    return max(1, min(bound, int(quota) // int(period)))


def available_bytes(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """How much memory can be had without swapping; None where the system does not say."""
    lines = dict(line.partition(":")[::2] for line in _read(proc / "meminfo").splitlines())
    known = [1024 * int(lines["MemAvailable"].split()[0])] if "MemAvailable" in lines else []
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        stats = dict(line.split() for line in _read(cgroup / "memory.stat").splitlines())
        cached = sum(int(stats.get(name, 0)) for name in ("active_file", "inactive_file"))  # it can be dropped
        known.append(int(limit) - int(used) + cached)
    return max(0, min(known)) if known else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
