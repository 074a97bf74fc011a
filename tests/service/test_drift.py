import numpy as np
import pytest
from scipy import stats

from service.drift import WINDOW, Window, uniform_distance


@pytest.mark.parametrize(
    ("values", "distance"),
    [
        ([0.5], 0.5),
        ([0.1, 0.2, 0.3, 0.4], 0.6),  # all are there at 0.4
        ([0.7, 0.6], 0.6),  # none is there before 0.6
        ([0.25, 0.25, 0.75, 1.0], 0.25),  # half of them are there at 0.25
        ([0.01] * 100, 0.99),
        ([1.0] * 100, 1.0),
    ],
)
def test_the_distance_is_the_largest_gap(values: list[float], distance: float) -> None:
    assert uniform_distance(np.array(values)) == pytest.approx(distance, abs=1e-12)


@pytest.mark.parametrize("power", [1.0, 1.2, 3.0])
def test_the_distance_is_scipys(power: float) -> None:
    values = np.random.default_rng(7).random(1_000) ** power
    assert uniform_distance(values) == pytest.approx(stats.kstest(values, "uniform").statistic, abs=1e-12)


def test_a_window_without_values_has_no_distance() -> None:
    assert (len(Window()), Window().distance()) == (0, 0.0)


@pytest.mark.parametrize("sizes", [[1] * 3_000, [7] * 500, [300] * 10, [2_048, 2_048], [5_000], [2_047, 2, 1]])
def test_a_window_holds_the_latest(sizes: list[int]) -> None:
    values = np.random.default_rng(8).random(sum(sizes)) ** np.linspace(1, 9, sum(sizes))
    window = Window()
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        window.add(part)
    assert len(window) == min(WINDOW, len(values))
    assert window.distance() == uniform_distance(values[-WINDOW:])


def test_a_cleared_window_forgets() -> None:
    window = Window()
    window.add(np.full(10, 0.01))
    window.clear()
    window.add(np.array([0.5]))
    assert (len(window), window.distance()) == (1, 0.5)
