"""The result of an experiment: its numbers, in the order in which they are printed, and a picture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lookalike.lessons.picture import Picture

__all__ = ["Shown", "mean_of_runs", "number_lines"]


@dataclass(frozen=True, eq=False)
class Shown:
    """The result of an experiment; the name of a number says in plain English what was measured."""

    numbers: Mapping[str, float]
    picture: Picture


def mean_of_runs(run: Callable[[int], tuple[dict[str, float], Picture]], runs: int, seed: int) -> Shown:
    """Return the means over `runs` runs, each with another seed, and the picture of the first."""
    done = [run(runs * seed + number) for number in range(runs)]
    numbers = {name: sum(measured[name] for measured, _ in done) / runs for name in done[0][0]}
    return Shown(numbers, done[0][1])


def number_lines(numbers: Mapping[str, float]) -> list[str]:
    """One line per number: the value, to four digits, and the name."""
    texts = {name: _plain(value) for name, value in numbers.items()}
    width = max(map(len, texts.values()), default=0)
    return [f"{value:>{width}}  {name}" for name, value in texts.items()]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
