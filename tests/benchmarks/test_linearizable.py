"""Histories of one register, by hand, and a brute-force search to compare with."""

import itertools
import random

import pytest

from benchmarks.linearizable import ABSENT, Kind, Operation, after, violations


def op(kind: Kind, text: str, called: int, answered: int | None) -> Operation:
    return Operation(kind, text, called, answered)


ONE, TWO = "1/red", "2/blue"
WRITTEN = op("write", ONE, 0, 1)

FITS: dict[str, list[Operation]] = {
    "nothing was written": [op("read", ABSENT, 0, 1)],
    "a write is read": [WRITTEN, op("read", ONE, 2, 3), op("read any", "", 4, 5)],
    "during a write both may be read, the new value last": [
        op("write", ONE, 0, 10), op("read", ABSENT, 1, 2), op("read", ONE, 3, 4),
    ],
    "two writes at once, in either order": [
        op("write", ONE, 0, 5), op("write", TWO, 0, 5), op("read", TWO, 6, 7),
    ],
    "a delete": [WRITTEN, op("delete", "", 2, 3), op("read", ABSENT, 4, 5)],
    "a value that does not have the tag stays": [WRITTEN, op("delete tagged", "blue", 2, 3), op("read", ONE, 4, 5)],
    "a value that has the tag goes": [WRITTEN, op("delete tagged", "red", 2, 3), op("read", ABSENT, 4, 5)],
    "no value of the tag": [WRITTEN, op("read other", "blue", 2, 3)],
    "a write without an answer may never happen": [op("write", ONE, 0, None), op("read", ABSENT, 2, 3)],
    "or late": [op("write", ONE, 0, None), op("read", ABSENT, 2, 3), op("read", ONE, 4, 5)],
    "or unseen, between a write and a delete by its tag": [
        WRITTEN, op("write", TWO, 0, None), op("delete tagged", "blue", 2, 3), op("read", ABSENT, 4, 5),
    ],
    "two deletes without an answer, each at its time": [
        WRITTEN, op("delete", "", 2, None), op("delete", "", 2, None), op("read", ABSENT, 4, 5),
        op("write", TWO, 6, 7), op("read", ABSENT, 8, 9),
    ],
}  # fmt: skip
DOES_NOT: dict[str, list[Operation]] = {
    "what nobody wrote": [op("read", ONE, 0, 1)],
    "a lost write": [WRITTEN, op("read", ABSENT, 2, 3)],
    "a stale read": [WRITTEN, op("write", TWO, 2, 3), op("read", ONE, 4, 5)],
    "back and forth": [op("write", ONE, 0, 10), op("read", ONE, 1, 2), op("read", ABSENT, 3, 4)],
    "a delete that did nothing": [WRITTEN, op("delete", "", 2, 3), op("read any", "", 4, 5)],
    "a delete of what is not there": [op("delete", "", 0, 1)],
    "two deletes of one value": [WRITTEN, op("delete", "", 2, 6), op("delete", "", 3, 5)],
    "a value of the tag that was not deleted": [WRITTEN, op("delete tagged", "red", 2, 3), op("read", ONE, 4, 5)],
    "a value without the tag that was deleted": [
        WRITTEN, op("delete tagged", "blue", 2, 3), op("read", ABSENT, 4, 5),
    ],
    "a search that missed it": [WRITTEN, op("read other", "red", 2, 3)],
    "a write without an answer that came, went, and came again": [
        op("write", ONE, 0, None), op("read", ONE, 2, 3), op("write", TWO, 4, 5), op("read", TWO, 6, 7),
        op("read", ONE, 8, 9),
    ],
    "a write without an answer, read before it was sent": [op("read", ONE, 0, 1), op("write", ONE, 2, None)],
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_accepts_histories_that_an_order_explains(name: str) -> None:
    assert violations(FITS[name]) == []


@pytest.mark.parametrize("name", DOES_NOT)
def test_finds_the_answer_that_no_order_explains(name: str) -> None:
    (found,) = violations(DOES_NOT[name])
    assert found.operation in DOES_NOT[name]


def test_a_violation_has_the_possible_states_and_the_operations_before() -> None:
    write, stale = op("write", TWO, 2, 3), op("read", ONE, 4, 5)
    (found,) = violations([WRITTEN, write, stale, op("read", TWO, 6, 7)])
    assert (found.operation, found.states) == (stale, (TWO,))
    assert found.window == (WRITTEN, write, stale)


def test_the_search_continues_after_a_violation() -> None:
    stale = [op("read", ABSENT, time, time + 1) for time in (2, 4)]
    found = violations([WRITTEN, *stale, op("read", ONE, 6, 7), op("delete", "", 8, 9), op("read", ONE, 10, 11)])
    assert [one.operation.called for one in found] == [2, 4, 10]


def fits_some_order(operations: list[Operation]) -> bool:
    """Try all subsets of the unanswered operations in all orders: slow, but clearly correct."""
    answered = [one for one in operations if one.answered is not None]
    lost = [one for one in operations if one.answered is None]
    return any(
        explains(order)
        for count in range(len(lost) + 1)
        for some in itertools.combinations(lost, count)
        for order in itertools.permutations([*answered, *some])
    )


def explains(order: tuple[Operation, ...]) -> bool:
    latest, state = -1, ABSENT
    for one in order:
        latest = max(latest, one.called)
        result = after(one, state)
        if result is None or (one.answered is not None and one.answered < latest):
            return False
        state = result
    return True


def random_history(rng: random.Random) -> list[Operation]:
    kinds: tuple[Kind, ...] = ("write", "read", "read any", "read other", "delete", "delete tagged")
    operations = []
    for number in range(rng.randint(2, 6)):
        kind, called = rng.choice(kinds), rng.randint(0, 12)
        lost = kind in ("write", "delete", "delete tagged") and rng.random() < 0.4
        if kind == "write":
            text = f"{number}/{rng.choice(['red', 'blue'])}"
        elif kind == "read":
            text = rng.choice([ABSENT, *(f"{place}/{tag}" for place in range(3) for tag in ("red", "blue"))])
        else:
            text = rng.choice(["red", "blue"]) if kind in ("read other", "delete tagged") else ""
        operations.append(op(kind, text, called, None if lost else called + rng.randint(0, 6)))
    return operations


def test_agrees_with_a_brute_force_search() -> None:
    rng = random.Random(0)
    histories = [random_history(rng) for _ in range(4_000)]
    found = [not violations(history) for history in histories]
    assert found == [fits_some_order(history) for history in histories]
    assert 400 < sum(found) < 3_600
