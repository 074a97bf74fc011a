"""The shared parts of every benchmark: alternating rounds, one table, one JSON file.

    seconds = alternate({"ours": step, "peer": other, "floor": products}, rounds=5)
    report("training", [row("a step", "ms", ours=..., peer=..., bar=Bar("peer / ours", ">=", 4))])

A bar that does not hold is printed and is marked in the file; the script does not fail.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lookalike.training.progress import progress_bar

__all__ = ["RESULTS", "Bar", "Row", "alternate", "machine", "medians", "report", "row", "seconds"]

RESULTS = Path(__file__).parent / "results"
Quantity = Literal["ours", "ours / peer", "peer / ours", "ours / floor"]


@dataclass(frozen=True)
class Bar:
    """A requirement: a quantity, a direction, and a value."""

    of: Quantity
    sense: Literal["<=", "<", ">="]
    limit: float

    def __str__(self) -> str:
        return f"{self.of} {self.sense} {self.limit:g}"

    def holds(self, value: float) -> bool:
        return {"<=": value <= self.limit, "<": value < self.limit, ">=": value >= self.limit}[self.sense]


@dataclass(frozen=True)
class Row:
    """One line of a report; None for a value that does not apply. `ratio` is the quantity of the bar.

    `spread` is the standard deviation over the seeds of the only figure of the line.
    """

    claim: str
    unit: str
    ours: float | None
    peer: float | None
    floor: float | None
    ratio: float | None
    bar: str | None
    holds: bool | None
    spread: float | None = None


def row(
    claim: str,
    unit: str,
    *,
    ours: float | None = None,
    peer: float | None = None,
    floor: float | None = None,
    spread: float | None = None,
    bar: Bar | None = None,
) -> Row:
    """Make a line: compute its ratio, and check its bar if it has one."""
    known = {"ours": ours, "peer": peer, "floor": floor}
    of = bar.of if bar else "ours / peer" if peer is not None else "ours / floor"
    value = _quantity(of, known)
    holds = bar.holds(value) if bar and value is not None else None
    ratio = None if of == "ours" else value
    return Row(claim, unit, ours, peer, floor, ratio, str(bar) if bar else None, holds, spread)


def seconds(step: Callable[[], object]) -> float:
    """The seconds that a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def alternate(segments: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every segment once per round, each round beginning with the next segment; returns each segment's figures.

    Other load on the machine then affects all segments equally.
    """
    figures: dict[str, list[float]] = {name: [] for name in segments}
    names = list(segments)
    with progress_bar("measuring", rounds * len(names), "segments") as advance:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                figures[name].append(segments[name]())
                advance(1, name)
    return figures


def medians(figures: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each segment's figures."""
    return {name: statistics.median(values) for name, values in figures.items()}


def report(name: str, rows: list[Row], note: str = "") -> Path:
    """Print the rows as a table and write them to `benchmarks/results/NAME.json`."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(_table(name, rows))
    if note:
        console.print(note, highlight=False)
    for failed in (r for r in rows if r.holds is False):
        console.print(f"[bold red]DOES NOT HOLD[/]  {failed.claim}: {failed.bar}, found {_found(failed)}")
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    lines = [{name: value for name, value in asdict(r).items() if (name, value) != ("spread", None)} for r in rows]
    text = json.dumps({"machine": machine(), "rows": lines}, indent=1, allow_nan=False)
    target.write_text(text + "\n", encoding="utf-8")
    return target


def machine() -> dict[str, str | int]:
    """The machine and the versions that the figures were measured with."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "faiss": str(faiss.__version__),
        "numpy": np.__version__,
    }


def _quantity(of: Quantity, known: Mapping[str, float | None]) -> float | None:
    top, _, bottom = of.partition(" / ")
    above, below = known[top], known[bottom] if bottom else 1.0
    return None if above is None or not below else above / below


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _table(name: str, rows: list[Row]) -> Table:
    table = Table("claim", "unit", title=name)
    spreads = any(r.spread is not None for r in rows)
    for column in ("ours", "peer", "floor", *(["spread"] if spreads else []), "ratio"):
        table.add_column(column, justify="right")
    table.add_column("bar")
    table.add_column("holds")
    for r in rows:
        verdict = {True: "[green]yes", False: "[bold red]NO", None: ""}[r.holds]
        figures = (r.ours, r.peer, r.floor, *([r.spread] if spreads else []), r.ratio)
        table.add_row(r.claim, r.unit, *map(_number, figures), r.bar or "", verdict)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _found(failed: Row) -> str:
    return _number(failed.ours if failed.ratio is None else failed.ratio)
