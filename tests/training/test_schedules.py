import math
from typing import Any, cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.training.config import OptimizerConfig
from lookalike.training.schedules import SCHEDULES, Schedule, build_schedule

KINDS = sorted(SCHEDULES)
LOSSES = st.lists(st.floats(0, 10), max_size=30)


def built(kind: str, warmup: float = 0.0) -> Schedule:
    return build_schedule(OptimizerConfig(schedule=cast(Any, kind), warmup=warmup))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", {0: 1, 0.5: 1, 1: 1}),
        ("step", {0: 1, 0.499: 1, 0.5: 0.1, 0.749: 0.1, 0.75: 0.01, 1: 0.01}),
        ("cosine", {0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1: 0}),  # cos(pi / 3) = 1/2
        # Half-way up it is the mean of 1/25 and 1, half-way down 1/2, a third of the way down 3/4.
        ("one_cycle", {0: 0.04, 0.15: 0.52, 0.3: 1, 0.3 + 0.7 / 3: 0.75, 0.65: 0.5, 1: 0}),
    ],
)
def test_a_schedule_follows_its_curve(kind: str, expected: dict[float, float]) -> None:
    schedule = built(kind)
    assert [schedule(done, []) for done in expected] == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize(
    ("losses", "factor"),
    [
        ([], 1),
        ([5, 4, 3, 2, 1, 0.5, 0.4, 0.3], 1),
        ([1, 2, 2, 2, 2], 1),  # four epochs without an improvement
        ([1, 2, 2, 2, 2, 2], 1 / 2),
        ([1, 1, 1, 1, 1, 1], 1 / 2),  # equal is not better
        ([1, *[2] * 10], 1 / 4),
        ([1, *[2] * 4, 0.5, *[1] * 4], 1),  # an improvement in time restarts the count
        ([1, *[2] * 5, 0.5, *[1] * 4], 1 / 2),  # a halved rate stays halved
        ([math.inf] * 6, 1 / 2),
        ([0.0, *[0.1] * 5], 1 / 2),
    ],
)
def test_a_plateau_of_five_epochs_halves_the_rate(losses: list[float], factor: float) -> None:
    assert built("plateau")(0.3, losses) == factor


@given(kind=st.sampled_from(KINDS), warmup=st.floats(0, 0.9), done=st.floats(0, 1), losses=LOSSES)
def test_a_factor_is_between_0_and_1_and_depends_only_on_the_arguments(
    kind: str, warmup: float, done: float, losses: list[float]
) -> None:
    # So a resumed run continues at the same rate: there is no other state to restore.
    factor = built(kind, warmup)(done, losses)
    assert 0 <= factor <= 1
    assert factor == built(kind, warmup)(done, list(losses))


@given(kind=st.sampled_from(KINDS), first=st.floats(0, 1), second=st.floats(0, 1), losses=LOSSES)
def test_after_its_peak_no_schedule_rises(kind: str, first: float, second: float, losses: list[float]) -> None:
    peak = 0.3 if kind == "one_cycle" else 0.0
    early, late = sorted((peak + (1 - peak) * first, peak + (1 - peak) * second))
    assert built(kind)(early, losses) >= built(kind)(late, losses) - 1e-12


@given(losses=LOSSES, more=LOSSES)
def test_a_plateau_never_raises_the_rate_again(losses: list[float], more: list[float]) -> None:
    assert built("plateau")(0.5, losses + more) <= built("plateau")(0.5, losses)


@pytest.mark.parametrize("kind", KINDS)
def test_warmup_rises_linearly_and_the_schedule_covers_the_rest_of_the_run(kind: str) -> None:
    warmed, plain = built(kind, warmup=0.2), built(kind)
    assert [warmed(done, []) for done in (0, 0.1, 0.2 - 1e-12)] == pytest.approx([0.04, 0.52, 1.0])
    shares = [0.0, 0.1, 0.25, 0.5, 0.9]
    assert [warmed(0.2 + 0.8 * done, []) for done in shares] == pytest.approx([plain(done, []) for done in shares])


def test_every_configurable_schedule_exists() -> None:
    assert set(SCHEDULES) == set(get_args(OptimizerConfig.__annotations__["schedule"]))
