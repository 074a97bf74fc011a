"""Cores, memory and GPUs that the machine, or the process's control group, provides."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["available_bytes", "cores", "memory_bytes", "one_gpu"]

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def cores(cgroup: Path = _CGROUP) -> int:
    """How many cores this process may use: those that it is bound to, or its control group's quota if that is less."""
    bound = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    is_limited = quota.isdigit() and period.strip().isdigit()
    return max(1, min(bound, int(quota) // int(period))) if is_limited else bound


def memory_bytes(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """Bytes of the machine's memory, or the control group's limit if that is less; 0 if unknown."""
    limit = _read(cgroup / "memory.max").strip()
    known = [_meminfo(proc, "MemTotal"), int(limit) if limit.isdigit() else None]
    return min((size for size in known if size is not None), default=0)


def available_bytes(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Bytes of memory that are available without swapping; None if unknown."""
    free = _meminfo(proc, "MemAvailable")
    known = [] if free is None else [free]
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        stats = dict(line.split() for line in _read(cgroup / "memory.stat").splitlines())
        cached = sum(int(stats.get(name, 0)) for name in ("active_file", "inactive_file"))  # the kernel can drop it
        known.append(int(limit) - int(used) + cached)
    return max(0, min(known)) if known else None


@contextmanager
def one_gpu(number: int, count: int) -> Iterator[None]:
    """Processes that are started in this context see only GPU `number` modulo `count`, of the `count` visible GPUs.

    A process cannot choose its own GPU, because each of its threads has its own current device.
    """
    before = os.environ.get(_VISIBLE)
    if count > 1:
        names = before.split(",") if before else list(map(str, range(count)))
        os.environ[_VISIBLE] = names[number % count]
    try:
        yield
    finally:
        if count > 1:
            os.environ.pop(_VISIBLE)
            os.environ |= {} if before is None else {_VISIBLE: before}


def _meminfo(proc: Path, name: str) -> int | None:
    """Bytes; None if unknown."""
    lines = dict(line.partition(":")[::2] for line in _read(proc / "meminfo").splitlines())
    return 1024 * int(lines[name].split()[0]) if name in lines else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
