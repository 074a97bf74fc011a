"""Cores and memory, read from files that are made by hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lookalike.service.resources import available_bytes, cores, memory_bytes, one_gpu


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc"


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


BOUND = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("max 100000\n", BOUND),
        ("100000000 100000\n", BOUND),  # a thousand cores
        (f"{BOUND}00000 100000\n", BOUND),
        ("", BOUND),
        ("none of these", BOUND),
    ],
)
def test_cores_are_the_bound_cores_up_to_the_quota(cgroup: Path, quota: str, expected: int) -> None:
    (cgroup / "cpu.max").write_text(quota)
    assert cores(cgroup) == expected


def test_where_there_is_no_control_group_the_bound_alone_counts(tmp_path: Path) -> None:
    assert cores(tmp_path / "none") == BOUND


def test_a_process_that_is_bound_to_one_core_has_one(cgroup: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores(cgroup) == 1
    finally:
        os.sched_setaffinity(0, before)


MEMINFO = "MemTotal:       16000000 kB\nMemFree:          200000 kB\nMemAvailable:    8000000 kB\n"
STAT = "anon 1000\nfile 5000000\ninactive_file 3000000\nactive_file 2000000\n"


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({}, 8_192_000_000),
        ({"memory.max": "max\n", "memory.current": "9000000\n"}, 8_192_000_000),
        ({"memory.max": "10000000\n", "memory.current": "9000000\n", "memory.stat": STAT}, 6_000_000),
        ({"memory.max": "10000000\n", "memory.current": "9000000\n"}, 1_000_000),
        ({"memory.max": "9000000\n", "memory.current": "10000000\n"}, 0),
        ({"memory.max": "99000000000\n", "memory.current": "0\n"}, 8_192_000_000),
        ({"memory.max": "10000000\n"}, 8_192_000_000),
    ],
)
def test_memory_is_the_machines_or_the_groups_limit(
    proc: Path, cgroup: Path, group: dict[str, str], expected: int
) -> None:
    """The page cache can be dropped, so it counts as available."""
    (proc / "meminfo").write_text(MEMINFO)
    for name, text in group.items():
        (cgroup / name).write_text(text)
    assert available_bytes(proc, cgroup) == expected


def test_uses_the_groups_limit_if_the_machine_reports_none(proc: Path, cgroup: Path) -> None:
    (proc / "meminfo").write_text("MemTotal: 16000000 kB\n")
    assert available_bytes(proc, cgroup) is None
    (cgroup / "memory.max").write_text("5000")
    (cgroup / "memory.current").write_text("2000")
    assert available_bytes(proc, cgroup) == 3_000


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max\n", 16_384_000_000), ("5000\n", 5_000), ("99999999999999\n", 16_384_000_000), ("", 16_384_000_000)],
)
def test_all_memory_is_the_machines_or_the_groups_if_that_is_less(
    proc: Path, cgroup: Path, limit: str, expected: int
) -> None:
    (proc / "meminfo").write_text(MEMINFO)
    (cgroup / "memory.max").write_text(limit)
    assert memory_bytes(proc, cgroup) == expected


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= cores() <= BOUND
    there = available_bytes()
    assert there is None or there > 1 << 20


SHOW = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))"]


@pytest.mark.parametrize(
    ("before", "count", "expected"),
    [
        (None, 0, ["all", "all", "all"]),
        (None, 1, ["all", "all", "all"]),
        (None, 2, ["0", "1", "0"]),
        ("3,GPU-8a", 2, ["3", "GPU-8a", "3"]),
        ("3", 1, ["3", "3", "3"]),
    ],
)
def test_processes_use_the_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, before: str | None, count: int, expected: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    seen = []
    for number in range(3):
        with one_gpu(number, count):
            seen.append(subprocess.run(SHOW, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    assert seen == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
