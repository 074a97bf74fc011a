"""This process's part in the test for drift (index.drift.detector): it tells in the store what it sees, and hears of
others.

The queries are gathered and judged some hundreds at a time, for one by one costs ten times as much; nobody sees the
difference. What the store does not let itself be told stays in this process, and the test goes on.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.index.drift.detector import ONCE_IN, Bets, Detector, Evidence, joined
from lookalike.index.drift.drift import Drift, DriftFile, DriftState, merged, told
from lookalike.service.observability.logs import lifecycle

__all__ = ["DriftWatch"]


class DriftWatch:
    """Call it from one thread."""

    def __init__(self, folder: Path | None = None, once_in: float = ONCE_IN) -> None:
        """`folder`: where the processes of one store tell each other what they saw; without, this one stays alone."""
        self._file = DriftFile(folder) if folder else None
        self._once_in = once_in
        self._thread = ThreadPoolExecutor(1, "drift")  # a store may be slow
        self._version, self._calibration, self._taken_for = 0, "", ""
        self._heard: bool
        self._detector: Detector
        self._left: list[DriftState] = []
        self._others: list[DriftState] = []
        self._troubles: set[str] = set()
        self._begin(0, 0, "")

    def serve(self, version: int, rows: int, calibration: str) -> None:
        """This version serves now, with so many calibration rows; with another calibration everything begins anew.

        Args:
            calibration: index.versions.version.calibration_of; a compaction has that of the version before it.
        """
        if calibration != self._calibration:
            self._begin(version, rows, calibration)
        self._version = version

    def add(self, values: NDArray[np.float64], version: int) -> None:
        """(n,) p-values of queries to a version; those to one that serves no more do not count."""
        if version == self._version and len(values):
            self._detector.add(values, time.time())

    def told(self) -> Drift:
        """What all processes saw; the others some seconds ago."""
        self._add_left()
        drift = told(merged([self._seen, *(state for state in self._others if state.calibration == self._calibration)]))
        if drift.drifted and not self._heard:
            self._heard = True
            self._detector.raise_alarm(time.time())
            lifecycle("drift", version=drift.version, evidence=round(drift.evidence, 1), queries=drift.queries)
        return drift

    async def exchange(self) -> None:
        """Tell the others, and hear them, in a thread of its own."""
        if self._file and self._version:
            self._add_left()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._exchange, self._file, self._seen)

    def close(self) -> None:
        """Leave what was seen to who comes next."""
        self._thread.shutdown(cancel_futures=True)
        self._add_left()
        if self._file and self._version:
            self._exchange(self._file, self._seen)
            self._file.close()

    def _begin(self, version: int, rows: int, calibration: str) -> None:
        self._version, self._calibration, self._heard, bets = version, calibration, False, Bets(rows)
        self._detector = Detector(bets, Evidence.none(bets, time.time()), self._once_in)

    @property
    def _seen(self) -> DriftState:
        return DriftState(self._version, self._calibration, self._detector.bets, self._detector.evidence, self._once_in)

    def _add_left(self) -> None:
        """Add the evidence that dead processes left to this process."""
        while self._left:
            left = self._left.pop()
            if _fits(left, self._seen):
                self._detector.evidence = joined(self._detector.evidence, left.evidence, left.bets)

    def _exchange(self, file: DriftFile, seen: DriftState) -> None:
        """In the thread; what dead processes left is put where `_add_left` finds it."""
        try:
            if self._taken_for != seen.calibration:
                left = file.take_over(seen.calibration)
                self._taken_for = seen.calibration
                if left and _fits(left, seen):
                    self._left.append(left)
                    seen = merged([seen, left])
            if seen.evidence.queries:
                file.write(seen)
            self._others, damaged = file.others(seen.calibration)
            self._complain(*damaged)
        except OSError as error:
            self._complain(f"{error.strerror or error}: {error.filename}")

    def _complain(self, *troubles: str) -> None:
        """Of each once."""
        for trouble in set(troubles) - self._troubles:
            self._troubles.add(trouble)
            lifecycle("drift not shared", reason=trouble)


def _fits(left: DriftState, seen: DriftState) -> bool:
    return (left.calibration, left.bets) == (seen.calibration, seen.bets)
