"""`lookalike drift`: report whether the queries are still like the data."""

import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from lookalike.cli.options import StoreOption, open_store

if TYPE_CHECKING:
    from lookalike.index.drift.drift import Drift

__all__ = ["DRIFTED", "drift", "drift_lines"]

DRIFTED = 10
"""The exit code if the queries have drifted."""


def drift(store: StoreOption) -> None:
    """Report whether the queries have drifted.

    Compares the queries to the champion with its data. Exit code 0: the queries are like the data; 10: the queries have
    drifted. Reads the records of the serving processes, which are a few seconds old. No service has to run.
    """
    from lookalike.index.drift.drift import drift_of

    found = drift_of(open_store(store))
    print("\n".join(drift_lines(found)))
    for reason in found.damaged:
        print(f"ignored: {reason}", file=sys.stderr)
    if found.drifted:
        raise typer.Exit(DRIFTED)


def drift_lines(found: "Drift") -> list[str]:
    """The lines of the report."""
    lines = [
        f"version: {found.version}",
        f"queries: {found.queries:,}",
        f"evidence: 10^{max(0.0, found.evidence):.1f}, drift from 10^{math.log10(found.once_in):.1f} on",
        f"false alarms: at most one in {found.once_in:,.0f} normal queries, on average",
    ]
    if found.since is not None:
        lines.append(
            f"since: {_time(found.since)}; of {found.asked:,} queries {found.strange:,} have p <= {found.level:g}, "
            f"where normal data has at most {found.rate:.1%}"
        )
    alarmed = f", alarmed {_time(found.alarm)}" if found.alarm is not None else ""
    return [*lines, f"drifted: {'yes' if found.drifted else 'no'}{alarmed}"]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
