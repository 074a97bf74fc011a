import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lookalike.index.ann.target import (
    Target,
    TuningTrial,
    fastest,
    in_speed,
    least_effort,
    meets,
    read_bytes,
    unreachable_target,
    with_front,
)
from lookalike.training.errors import ConfigError

MEASURED = TuningTrial("Flat", "", 1.0, 1.0, 1.0, 10.0, 5.0, 1_000, 50)


def trial(recall: float, latency: float, size: int = 1_000, **changes: Any) -> TuningTrial:
    return replace(MEASURED, recall=recall, low=recall, high=recall, latency_us=latency, bytes=size, **changes)


def dominated(one: TuningTrial, others: list[TuningTrial]) -> bool:
    """Whether another trial over as many items is at least as good in all three measures and better in one."""
    for other in others:
        mine = (one.recall, -one.latency_us, -one.bytes)
        theirs = (other.recall, -other.latency_us, -other.bytes)
        if other.items == one.items and theirs != mine and all(t >= m for t, m in zip(theirs, mine, strict=True)):
            return True
    return False


def test_the_pareto_front() -> None:
    trials = [
        trial(1.00, 90, 900),  # the most recall
        trial(0.95, 20, 900),  # the fastest
        trial(0.95, 20, 901),  # like the previous one, with one byte more
        trial(0.94, 30, 900),  # worse in two measures
        trial(0.50, 99, 100),  # the smallest
        trial(0.10, 99, 100),  # like the previous one, with less recall
        trial(0.95, 20, 900),  # equal to the fastest
        trial(0.20, 500, 5_000, items=9),  # over other items, so not comparable
    ]
    expected = [True, True, False, False, True, False, True, True]
    assert [marked.front for marked in with_front(trials)] == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2)), max_size=12))
def test_the_pareto_front_contains_exactly_the_undominated_trials(drawn: list[tuple[int, int, int, int]]) -> None:
    trials = [trial(recall / 3, latency, size, items=items) for recall, latency, size, items in drawn]
    assert [marked.front for marked in with_front(trials)] == [not dominated(one, trials) for one in trials]


def test_fastest_prefers_the_fastest_batch_among_similar_latencies() -> None:
    trials = [trial(1, 100, batch_us=9.0), trial(1, 109, batch_us=3.0), trial(1, 111, batch_us=1.0)]
    assert fastest(trials) is trials[1]
    assert in_speed(trials) == [trials[1], trials[0], trials[2]]


SMALL, QUICK, RIGHT = trial(0.90, 80, 500), trial(0.97, 30, 4_000), trial(1.00, 99, 2_000)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(0.99, latency_us=50), ["--recall 0.970", "--latency-us 99"]),
        (Target(0.95, memory=1_000), ["--recall 0.900", "--memory 2000"]),
        (Target(0.95, memory=1_000, latency_us=50), ["--memory 4000"]),
        (Target(0.98, memory=600, latency_us=50), ["Relax two of them"]),
        (Target(0.95, memory=1_000, latency_us=85), ["--recall 0.900", "--memory 4000"]),
        (Target(0.95, memory=2_500, latency_us=90), ["--recall 0.900", "--memory 4000", "--latency-us 99"]),
    ],
)
def test_an_unreachable_target_lists_the_sufficient_changes(target: Target, expected: list[str]) -> None:
    error = unreachable_target([SMALL, QUICK, RIGHT], target)
    assert re.findall(r"--\S+ [\d.]+|Relax two of them", error.remedy) == expected
    assert "the highest recall is 1.0000" in error.found


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.1, 1e4), st.integers(1, 10**9)), min_size=1, max_size=8),
    st.floats(0.01, 1),
    st.none() | st.integers(1, 10**9),
    st.none() | st.floats(0.1, 1e4),
)
def test_each_listed_change_makes_the_target_reachable(
    drawn: list[tuple[float, float, int]], recall: float, memory: int | None, latency: float | None
) -> None:
    trials = [trial(*each) for each in drawn]
    target = Target(recall, memory, latency)
    assume(not any(meets(one, target) for one in trials))
    named = re.findall(r"--(recall|memory|latency-us) ([\d.]+)", unreachable_target(trials, target).remedy)
    for name, value in named:
        field = name.replace("-", "_")
        changes: dict[str, Any] = {field: int(value) if field == "memory" else float(value)}
        easier = replace(target, **changes)
        assert any(meets(one, easier) for one in trials)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({"recall": 0.0}, "target.recall"),
        ({"recall": -0.5}, "target.recall"),
        ({"recall": 1.01}, "target.recall"),
        ({"recall": float("nan")}, "target.recall"),
        ({"memory": 0}, "target.memory"),
        ({"memory": -1}, "target.memory"),
        ({"memory": 1 << 63}, "target.memory"),
        ({"latency_us": 0.0}, "target.latency_us"),
        ({"latency_us": float("inf")}, "target.latency_us"),
        ({"latency_us": float("nan")}, "target.latency_us"),
    ],
    ids=str,
)
def test_refuses_a_target_out_of_range(target: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Target(**target)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1", 1),
        ("123B", 123),
        ("64MB", 64_000_000),
        ("64mb", 64_000_000),
        (" 64 MB ", 64_000_000),
        ("64M", 64_000_000),
        ("1.5GiB", 3 << 29),
        ("1.5gib", 3 << 29),
        ("2KiB", 2_048),
        ("2K", 2_000),
        ("0.5kB", 500),
        ("1.9", 1),
        ("999999999999999", 999_999_999_999_999),
    ],
)
def test_read_bytes(text: str, number: int) -> None:
    assert read_bytes(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "B", "MB", "-1", "+1", "1e6", "0x10", "1,000", "1 000", ".5", "1.", "64TB", "64iB", "64 M B", "nan"),
        *("inf", "1" * 16, "6\n4", "64MB!"),
    ],
)
def test_refuses_a_text_that_is_not_a_number_of_bytes(text: str) -> None:
    with pytest.raises(ConfigError, match="memory: expected a number of bytes, such as 64MB"):
        read_bytes(text)


@given(st.integers(0, 10**6), st.sampled_from(["", "B", "KB", "MiB", "GB", "kib"]))
def test_read_bytes_ignores_case_and_a_space(number: int, unit: str) -> None:
    assert (
        read_bytes(f"{number}{unit}") == read_bytes(f"{number} {unit.upper()}") == read_bytes(f"{number}{unit.lower()}")
    )


def test_least_effort_returns_the_first_trial_per_outer_parameter() -> None:
    rising = [MEASURED, *(replace(MEASURED, key="IVF8", search=f"nprobe={n}") for n in (2, 3))]
    refined = [replace(MEASURED, key="R", search=f"k_factor={k},nprobe={n}") for k in (2, 4) for n in (1, 8)]
    assert least_effort([*rising, *refined]) == [*rising[:2], refined[0], refined[2]]
