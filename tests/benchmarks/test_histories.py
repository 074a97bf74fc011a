"""A few of the histories of `benchmarks.histories`, and proof that it would detect a wrong answer."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.histories import run
from benchmarks.history import History, MismatchError
from benchmarks.plain import Plain, passes
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection


@pytest.mark.parametrize("seed", range(12))
def test_every_answer_of_a_history_equals_the_dictionary_s(seed: int) -> None:
    """Covers all metrics with each kind of index; in seeds 3, 7 and 11 a second process writes too."""
    assert run(seed, 300).total() == 300


def steps(history: History, count: int) -> None:
    for _ in range(count):
        history.step()


def test_detects_a_change_that_is_not_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path, seed=0)
    monkeypatch.setattr(Collection, "apply", lambda self, changes, embeddings: setattr(self, "applied", 10**6))
    with pytest.raises(MismatchError):
        steps(history, 200)
    history.close()


def test_the_dictionary_ranks_as_calculated_by_hand() -> None:
    plain = Plain(["a", "b", "c", "d"], np.eye(5, 3, dtype=np.float32), "l2")
    for name, x in (("a", 3), ("d", 1), ("c", 1), ("b", 2e20)):
        plain.apply(Change(name, np.array([x, 0, 0, 7, 7], np.float32), '{"n": 1}'))
    scores = plain.scores(np.zeros(3, np.float32))
    assert plain.nearest(scores, 9) == ["c", "d", "a"]  # c before d: ties are ordered by id; b cannot be compared
    assert plain.nearest(scores, 2, own="c") == ["d", "a"]
    assert plain.nearest(scores, 9, {"field": "n", "exists": False}) == []
    plain.apply(Change("d"))
    assert plain.present() == ["a", "c"]


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ({"field": "n", "equal": 2}, [True, True, False, False]),
        ({"field": "n", "in": ["2", 2.5]}, [False, False, True, False]),
        ({"field": "n", "range": {"gte": 2}}, [True, True, False, False]),
        ({"not": {"field": "n", "exists": True}}, [False, False, False, True]),
    ],
)
def test_a_payload_matches_a_filter_as_calculated_by_hand(given: object, right: list[bool]) -> None:
    assert [passes(payload, given) for payload in ('{"n": 2}', '{"n": [1, 2]}', '{"n": "2"}', '{"n": null}')] == right
