"""This process's part of the drift test (index.drift.detector): exchange evidence with other processes by the store.

If the store cannot be written, the evidence stays in this process, and the test continues.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lookalike.index.drift.detector import ONCE_IN, Bets, Detector, Evidence, combine
from lookalike.index.drift.drift import Drift, DriftFile, DriftState, combine_states, summarize
from lookalike.service.observability.logs import lifecycle
from lookalike.training.array_types import Doubles

__all__ = ["DriftWatch"]


class DriftWatch:
    """Collects the drift evidence of one process; call it from one thread."""

    def __init__(self, folder: Path | None = None, once_in: float = ONCE_IN) -> None:
        """`folder`: the folder in which the processes of one store share their evidence; None: this process alone."""
        self._file = DriftFile(folder) if folder else None
        self._once_in = once_in
        self._thread = ThreadPoolExecutor(1, "drift")  # a store may be slow
        self._version, self._calibration, self._inherited_for = 0, "", ""
        self._alarmed: bool
        self._detector: Detector
        self._left: list[DriftState] = []
        self._others: list[DriftState] = []
        self._reported: set[str] = set()
        self._begin(0, 0, "")

    def serve(self, version: int, rows: int, calibration: str) -> None:
        """Set the serving version and the number of its calibration rows; another calibration starts a new test.

        `calibration`: index.versions.version.calibration_of; a compaction keeps the calibration.
        """
        if calibration != self._calibration:
            self._begin(version, rows, calibration)
        self._version = version

    def add(self, values: Doubles, version: int) -> None:
        """Judge (n,) p-values of queries to a version; a version that no longer serves is left out."""
        if version == self._version and len(values):
            self._detector.add(values, time.time())

    def current(self) -> Drift:
        """The evidence of all processes; that of the others is some seconds old."""
        self._add_left()
        others = (state for state in self._others if state.calibration == self._calibration)
        drift = summarize(combine_states([self._seen, *others]))
        if drift.drifted and not self._alarmed:
            self._alarmed = True
            self._detector.raise_alarm(time.time())
            lifecycle("drift", version=drift.version, evidence=round(drift.evidence, 1), queries=drift.queries)
        return drift

    async def exchange(self) -> None:
        """Write this process's evidence and read the others', in a thread."""
        if self._file and self._version:
            self._add_left()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._exchange, self._file, self._seen)

    def close(self) -> None:
        """Save the evidence for the next process."""
        self._thread.shutdown(cancel_futures=True)
        self._add_left()
        if self._file and self._version:
            self._exchange(self._file, self._seen)
            self._file.close()

    def _begin(self, version: int, rows: int, calibration: str) -> None:
        self._version, self._calibration, self._alarmed, bets = version, calibration, False, Bets(rows)
        self._detector = Detector(bets, Evidence.none(bets, time.time()), self._once_in)

    @property
    def _seen(self) -> DriftState:
        return DriftState(self._version, self._calibration, self._detector.bets, self._detector.evidence, self._once_in)

    def _add_left(self) -> None:
        """Add the evidence that dead processes left to this process."""
        while self._left:
            left = self._left.pop()
            if _fits(left, self._seen):
                self._detector.evidence = combine(self._detector.evidence, left.evidence, left.bets)

    def _exchange(self, file: DriftFile, seen: DriftState) -> None:
        """In the thread: exchange evidence; `_add_left` adds that of dead processes."""
        try:
            if self._inherited_for != seen.calibration:
                left = file.take_over(seen.calibration)
                self._inherited_for = seen.calibration
                if left and _fits(left, seen):
                    self._left.append(left)
                    seen = combine_states([seen, left])
            if seen.evidence.queries:
                file.write(seen)
            self._others, damaged = file.others(seen.calibration)
            self._report(*damaged)
        except OSError as error:
            self._report(f"{error.strerror or error}: {error.filename}")

    def _report(self, *troubles: str) -> None:
        """Log each trouble once."""
        for trouble in set(troubles) - self._reported:
            self._reported.add(trouble)
            lifecycle("drift not shared", reason=trouble)


def _fits(left: DriftState, seen: DriftState) -> bool:
    return (left.calibration, left.bets) == (seen.calibration, seen.bets)
