"""The recall that benchmarks.items computes while items arrive."""

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.items_load import Arrived, K, Material, Searched, arrivals, recall, searches, together, write_all


def on_circle(degrees: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(n, 2)"""
    angles = np.radians(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


MATERIAL = Material(
    base=on_circle([1.0 * number for number in range(1, 21)]),  # item 0 is at one degree from the query, 1 at two, ...
    rows=np.zeros((2, 3), np.float32),
    new=on_circle([0.5, 2.5]),
    queries=np.zeros((1, 3), np.float32),
    asked=on_circle([0.0]),
)
BASE = [str(number) for number in range(K)]
BOTH = ["new-0", "0", "1", "new-1", "2", "3", "4", "5", "6", "7"]
ONE = ["new-0", *BASE[:9]]


def searched(began: float, ended: float, found: list[str]) -> Searched:
    return Searched([ended - began], [began], [ended], [0], [found])


@pytest.mark.parametrize(
    ("began", "ended", "found", "share"),
    [
        (0.0, 1.0, BASE, 1.0),
        (0.0, 1.0, [*BASE[:7], "17", "18", "19"], 0.7),
        (0.0, 1.0, BOTH, 0.8),  # nothing was sent yet: items that came later are not hits
        (4.0, 5.0, BOTH, 1.0),  # both items existed
        (4.0, 5.0, BASE, 0.8),
        (2.2, 2.3, BASE, 1.0),  # one item is being written, and may exist or not
        (2.2, 2.3, ONE, 1.0),
        (2.2, 2.3, BOTH, 0.9),
    ],
)
def test_recall_is_of_the_items_that_existed_at_that_moment(
    began: float, ended: float, found: list[str], share: float
) -> None:
    arrived = Arrived(sent=[2.0, 3.0], done=[2.5, 3.5], count=[1, 2])
    assert recall(MATERIAL, searched(began, ended, found), arrived) == pytest.approx(share)


def test_recall_if_nothing_arrives() -> None:
    assert recall(MATERIAL, searched(0.0, 1.0, BASE[:9])) == pytest.approx(0.9)


def test_the_rate_of_arrivals_spans_the_first_send_to_the_last_acknowledgement() -> None:
    assert Arrived(sent=[1.0, 2.0], done=[1.5, 3.0], count=[100, 200]).rate == 100.0


class Shelf:
    """A door whose items are in a list."""

    def __init__(self) -> None:
        self.put_so_far: list[range] = []

    def made(self, first: int, count: int) -> range:
        return range(first, first + count)

    def put(self, made: range) -> None:
        self.put_so_far.append(made)

    def query(self, number: int) -> int:
        return number

    def find(self, query: int) -> list[str]:
        return [str(query)]


def test_writers_and_searchers_send_the_expected_calls() -> None:
    shelf = Shelf()
    seen: Searched
    came: Arrived
    seen, came = together(
        [
            lambda ready: searches(lambda: shelf, 3, 1_000.0, 0.01, ready),
            lambda ready: arrivals(lambda: shelf, 5, 2_000.0, 0.01, ready),
        ],
        processes=False,
    )
    assert (seen.query, seen.found[:4]) == ([0, 1, 2] * 3 + [0], [["0"], ["1"], ["2"], ["0"]])
    assert shelf.put_so_far == [range(first, first + 5) for first in range(0, came.count[-1], 5)]
    shelf.put_so_far.clear()
    (done,) = together([lambda ready: write_all(lambda: shelf, 7, 2, 3, math.inf, ready)], processes=False)
    assert shelf.put_so_far == [range(7, 9), range(9, 11), range(11, 13)]
    assert done.count == [2, 4, 6]
