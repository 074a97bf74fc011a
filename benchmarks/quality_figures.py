"""The figures of `benchmarks.quality`: measured once for each seed, and reported as mean and standard deviation.

A case is a part of the benchmark, optionally with a name, such as `digits` or `windows GunPoint`. A method is ours or a
peer. Its scores are figures by name, such as "precision@10, clean".
"""

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import Bar, Row, row

__all__ = ["OURS", "RAW", "Figures", "Scores", "ahead", "difference", "figure_rows", "merged", "part_of"]

Scores = dict[str, float]
OURS, RAW = "ours", "raw rows"


@dataclass
class Figures:
    """The scores by case, method and seed.

    Attributes:
        kept: a file of JSON lines. Scores that it has are not measured again; each new one is appended.
    """

    kept: Path | None = None
    _measured: dict[tuple[str, str, int], dict[str, Scores]] = field(default_factory=dict)
    """By case, group and seed: the scores of each method."""

    def __post_init__(self) -> None:
        if self.kept and self.kept.exists():
            for line in self.kept.read_text(encoding="utf-8").splitlines():
                found = json.loads(line)
                self._measured[found["case"], found["group"], found["seed"]] = found["scores"]

    def take(self, case: str, group: str, seed: int, measure: Callable[[], dict[str, Scores]]) -> dict[str, Scores]:
        """Return the scores of a group of methods, by method: kept ones, or else those that `measure` returns."""
        key = (case, group, seed)
        if key not in self._measured:
            scores = self._measured[key] = measure()
            if self.kept:
                line = json.dumps({"case": case, "group": group, "seed": seed, "scores": scores})
                with self.kept.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
        return self._measured[key]

    def methods(self, case: str, name: str) -> list[str]:
        """Return the methods that have the figure `name`, in the order in which they were measured."""
        each = (scores for (of, _, _), scores in self._measured.items() if of == case)
        return list(dict.fromkeys(method for scores in each for method, found in scores.items() if name in found))

    def values(self, case: str, name: str, method: str) -> dict[int, float]:
        """Return a figure of a method by seed."""
        return {
            seed: scores[method][name]
            for (of, _, seed), scores in sorted(self._measured.items())
            if of == case and name in scores.get(method, {})
        }


def figure_rows(figures: Figures, case: str, name: str, unit: str = "share", bar: Bar | None = None) -> Iterator[Row]:
    """Yield a line for each method: the mean and the spread over the seeds. Ours has the bar."""
    for method in figures.methods(case, name):
        values = figures.values(case, name, method)
        mean, deviation = _mean_and_spread(values.values())
        spread = deviation if len(values) > 1 else None
        column = {OURS: "ours", RAW: "floor"}.get(method, "peer")
        yield row(
            f"{case}: {name}, {method}", unit, spread=spread, bar=bar if method == OURS else None, **{column: mean}
        )


def difference(ours: Mapping[int, float], peer: Mapping[int, float]) -> tuple[float, float]:
    """Return the mean and the spread of the differences to a peer by seed; a peer's single figure counts for all."""
    if len(peer) == 1:
        peer = dict.fromkeys(ours, *peer.values())
    return _mean_and_spread(ours[seed] - peer[seed] for seed in ours.keys() & peer.keys())


def ahead(figures: Figures, case: str, name: str, method: str, *, least: float | None = None) -> Row:
    """Return a line with ours less a peer's, seed by seed; it must be `least` or more, or if None, the spread."""
    mean, spread = difference(figures.values(case, name, OURS), figures.values(case, name, method))
    limit = round(spread, 4) if least is None else least
    claim = f"{case}: {name}, ours less {method}"
    return row(claim, "share", ours=mean, spread=spread, bar=Bar("ours", ">=", limit))


def part_of(claim: str) -> str:
    """Return the part of the benchmark that a line belongs to: the first word of its case."""
    return claim.partition(":")[0].partition(" ")[0]


def merged(path: Path, part: str, rows: Iterable[Row], parts: list[str]) -> list[Row]:
    """Return the lines of a results file, with all lines of one part replaced, in the order of the parts.

    Lines of unknown parts, of an earlier form of the file, are left out.
    """
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    kept = [Row(**line) for line in earlier if part_of(line["claim"]) != part]
    lines = [line for line in (*kept, *rows) if part_of(line.claim) in parts]
    return sorted(lines, key=lambda line: parts.index(part_of(line.claim)))


def _mean_and_spread(values: Iterable[float]) -> tuple[float, float]:
    """The mean and the sample standard deviation, 0 for one value."""
    found = list(values)
    return statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else 0.0
