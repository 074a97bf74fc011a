import math
from itertools import cycle

import pytest

from benchmarks.report import Bar
from benchmarks.service import versus
from benchmarks.service_load import Load, alternated, attempt

FAST, SLOW = Load(90.0, 1.0, 2.0, 3.0), Load(30.0, 3.0, 6.0, 9.0)


def failing(after: int) -> "cycle[object]":
    return cycle([SLOW] * after + [None])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_prints_a_failed_peer_and_keeps_the_other_figures(after: int, capsys: pytest.CaptureFixture[str]) -> None:
    each = failing(after)

    def peer() -> Load:
        load = next(each)
        if load is None:
            raise RuntimeError("17 time-outs")
        assert isinstance(load, Load)
        return load

    found = alternated({"ours": lambda: FAST, "peer": peer, "floor": lambda: SLOW}, 3)
    assert found == {"ours": FAST, "floor": SLOW}
    assert capsys.readouterr().out.count("FAILED  peer: 17 time-outs") == 1


def test_raises_if_our_own_load_fails() -> None:
    def ours() -> Load:
        raise RuntimeError("17 time-outs")

    with pytest.raises(RuntimeError, match="17"):
        alternated({"ours": ours, "peer": lambda: SLOW}, 1)


def test_a_failed_peer_has_an_empty_column_and_no_verdict() -> None:
    rows = versus("1 connection", "a peer", FAST, None, Bar("ours / peer", ">=", 4))
    assert [(one.ours, one.peer, one.ratio, one.holds) for one in rows] == [
        (value, None, None, None) for value in (90.0, 1.0, 2.0, 3.0)
    ]
    assert all("failed" in one.claim for one in rows)
    beside = versus("1 connection", "a peer", FAST, SLOW, Bar("ours / peer", ">=", 4))
    assert math.isclose(beside[0].ratio or 0, 3)
    assert beside[0].holds is False


def test_attempt_returns_the_result_of_the_call() -> None:
    assert attempt("peer", lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):  # an error of the benchmark itself
        attempt("peer", lambda: 1 // 0)
