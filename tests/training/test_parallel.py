from collections.abc import Iterator
from contextlib import closing
from threading import Event

import pytest

from lookalike.training.parallel import map_in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_results_come_in_the_order_of_the_values(threads: int, count: int) -> None:
    assert list(map_in_order(lambda value: value * value, iter(range(count)), threads)) == [i * i for i in range(count)]


def test_a_result_waits_for_the_one_before_it() -> None:
    second = Event()

    def step(value: int) -> int:
        if value == 0:
            assert second.wait(10)
        else:
            second.set()
        return value

    assert list(map_in_order(step, iter(range(2)), 2)) == [0, 1]  # with one thread the first value would wait forever


@pytest.mark.parametrize("threads", [1, 3])
def test_fetches_at_most_two_values_more_than_threads(threads: int) -> None:
    fetched: list[int] = []

    def values() -> Iterator[int]:
        for number in range(20):
            fetched.append(number)
            yield number

    for result in map_in_order(lambda value: value, values(), threads):
        assert len(fetched) <= result + threads + 2


@pytest.mark.parametrize("threads", [1, 3])
def test_yields_the_results_before_an_error(threads: int) -> None:
    def step(value: int) -> int:
        if value == 4:
            raise KeyboardInterrupt
        return value

    results = map_in_order(step, iter(range(9)), threads)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        next(results)


def test_closing_waits_for_running_steps() -> None:
    done: list[int] = []
    with closing(map_in_order(done.append, iter(range(9)), 2)) as results:
        next(results)
    assert sorted(done) == list(range(len(done)))
    assert 1 <= len(done) <= 4
