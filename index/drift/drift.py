"""The drift state of each process that serves a store, stored in files and combined for reports.

STORE/drift/0.json   the state of one process: version, calibration, queries, evidence, start of the change, alarm, bets
STORE/drift/0.lock   locked by the process that owns the file, as long as it lives

A process takes the first number whose lock is free, so there are as many files as there were processes at the same
time. It takes over the states of dead processes with the same calibration and continues from them: a restart forgets
nothing, and no query counts twice. (If it dies between taking over and writing, these states are lost.) It deletes the
states of dead processes with another calibration. Files are replaced by a rename and need not survive a power failure.

States belong together if they have the same calibration (index.versions.version.calibration_of), not the same version
number: a compaction has a new number, but judges queries as before.

The evidence of several processes is added, which keeps the rate of false alarms: see index.drift.detector.
"""

import contextlib
import fcntl
import json
import math
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from lookalike.index.drift.detector import ONCE_IN, Bets, Evidence, combine
from lookalike.index.versions.manifest import FORMAT as VERSION_FORMAT
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import calibration_of
from lookalike.training.array_types import Doubles
from lookalike.training.sealed import read_manifest, replacing

__all__ = [
    "FOLDER",
    "Drift",
    "DriftFile",
    "DriftState",
    "combine_states",
    "drift_of",
    "read_drift",
    "read_states",
    "summarize",
]

FOLDER = "drift"
"""The folder's name in a store."""
FORMAT = "lookalike-drift-2"
"""Must change whenever the levels or shares in index.drift.detector change."""
_MOST_BYTES = 1 << 16
_LATEST = 95_617_584_000.0
_DAMAGE = (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError)


class DriftState(NamedTuple):
    """The evidence from the queries of one or several processes; `version` is the version that served last."""

    version: int
    calibration: str
    bets: Bets
    evidence: Evidence
    once_in: float = ONCE_IN


@dataclass(frozen=True)
class Drift:
    """The drift according to all queries that were judged by a version's calibration.

    Attributes:
        version: the version that serves, or that the report is for.
        queries: the number of queries; `processes`: the number of processes that saw them.
        evidence: log10 of the evidence; the alarm is raised at log10 of `once_in`. -inf before the first query.
        once_in: the mean number of normal queries per false alarm.
        alarm: the time of the first alarm, in seconds since 1970; None if there was none.
        since: the time when a change began, if there is one, in seconds since 1970: the start of the run of the bet
            with the most evidence.
        level: the level of that bet: `strange` of the `asked` queries since then have a p-value of at most `level`.
        rate: the highest share of such p-values that normal data may have.
        damaged: the files that were ignored, with the reasons.
    """

    version: int
    queries: int = 0
    processes: int = 0
    evidence: float = -math.inf
    once_in: float = ONCE_IN
    alarm: float | None = None
    since: float | None = None
    level: float | None = None
    rate: float | None = None
    asked: int = 0
    strange: int = 0
    damaged: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether there was an alarm; it lasts until another encoder is served."""
        return self.alarm is not None or self.evidence >= math.log10(self.once_in)


def drift_of(store: Store) -> Drift:
    """Return the drift of the queries to the champion and to the versions that it was compacted from.

    Raises StoreError if there is no champion, ArtifactError if its manifest is damaged.
    """
    number = store.champion_number()
    return read_drift(store.folder / FOLDER, number, calibration_of(read_manifest(store.path(number), VERSION_FORMAT)))


def read_drift(folder: Path, version: int, calibration: str) -> Drift:
    """Read the drift of a calibration's queries, reported for `version`; ignores other and damaged files."""
    states, damaged = read_states(folder, calibration)
    if not states:
        return Drift(version, damaged=damaged)
    return replace(summarize(combine_states(states)), version=version, processes=len(states), damaged=damaged)


def summarize(state: DriftState) -> Drift:
    """Return the report of a state."""
    evidence, best = state.evidence, state.evidence.leading
    total = evidence.total / math.log(10)
    drift = Drift(state.version, evidence.queries, 1, total, once_in=state.once_in, alarm=evidence.alarm)
    if best is None:
        return drift
    return replace(
        drift,
        since=float(evidence.since[best]),
        level=float(state.bets.levels[best]),
        rate=float(state.bets.rates[best]),
        asked=int(evidence.asked[best]),
        strange=int(evidence.strange[best]),
    )


def combine_states(states: list[DriftState]) -> DriftState:
    """Combine states of the same calibration; there must be at least one."""
    first = states[0]
    evidence = reduce(lambda left, right: combine(left, right, first.bets), (state.evidence for state in states))
    return first._replace(evidence=evidence, once_in=max(state.once_in for state in states))


def read_states(folder: Path, calibration: str, exclude: str = "") -> tuple[list[DriftState], tuple[str, ...]]:
    """Read the states of a calibration from all files except `exclude`; also return ignored files with reasons."""
    states: list[DriftState] = []
    damaged: list[str] = []
    for path in sorted(folder.glob("*.json")):
        if path.name == exclude:
            continue
        try:
            state = _read(path)
            if state.calibration == calibration and states and state.bets != states[0].bets:
                raise ValueError(f"expected {states[0].bets.rows} calibration rows, found {state.bets.rows}")
        except FileNotFoundError:  # another process took it over
            continue
        except _DAMAGE as error:
            damaged.append(f"{path}: {error!r}")
            continue
        if state.calibration == calibration:
            states.append(state)
    return states, tuple(damaged)


class DriftFile:
    """The file of one process among those of a store; not thread-safe.

    Every method raises OSError if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[bytes] | None = None
        self._path = folder

    def take_over(self, calibration: str) -> DriftState | None:
        """Combine the states of dead processes and of this one for a calibration, if any; delete all their files."""
        self._claim()
        states: list[DriftState] = []
        for path in sorted(self._folder.glob("*.json")):
            lock = None if path == self._path else _locked(path.with_suffix(".lock"))
            if path != self._path and lock is None:
                continue
            with contextlib.suppress(*_DAMAGE):
                state = _read(path)
                if state.calibration == calibration and all(state.bets == other.bets for other in states):
                    states.append(state)
            path.unlink(missing_ok=True)
            if lock:
                lock.close()
        return combine_states(states) if states else None

    def write(self, state: DriftState) -> None:
        """Replace the state of this process."""
        self._claim()
        with replacing(self._path, durable=False) as new:
            new.write_text(json.dumps(_as_json(state), allow_nan=False) + "\n", encoding="utf-8")

    def others(self, calibration: str) -> tuple[list[DriftState], tuple[str, ...]]:
        """Read the states of all other processes; returns the same as `read_states`."""
        return read_states(self._folder, calibration, self._path.name)

    def close(self) -> None:
        """Release the file, so that another process can take it over."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def _claim(self) -> None:
        if self._lock:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while (lock := _locked(self._folder / f"{number}.lock")) is None:
            number += 1
        self._lock, self._path = lock, self._folder / f"{number}.json"


def _locked(path: Path) -> IO[bytes] | None:
    """Return the file, locked until it is closed or this process ends; None if a live process holds the lock."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if not isinstance(error, BlockingIOError):
            raise
        return None
    return file


def _as_json(state: DriftState) -> dict[str, Any]:
    """Return a state as JSON values. It needs at least one query, so that all numbers are finite."""
    evidence, drift = state.evidence, summarize(state)
    return {
        "format": FORMAT,
        "version": state.version,
        "calibration": state.calibration,
        "calibration_rows": state.bets.rows,
        "queries": evidence.queries,
        "evidence": drift.evidence if len(state.bets) else None,
        "once_in": state.once_in,
        "alarm_at": evidence.alarm,
        "changed_since": drift.since,
        "bets": {name: getattr(evidence, name).tolist() for name in ("logs", "since", "asked", "strange")},
    }


def _read(path: Path) -> DriftState:
    """Read a state. Raises one of _DAMAGE for a file that `write` did not write."""
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes")
    fields = json.loads(text)
    if fields["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {fields['format']!r}")
    bets, values = Bets(_count(fields["calibration_rows"])), fields["bets"]
    logs, since, asked, strange = (_numbers(values[name], len(bets)) for name in ("logs", "since", "asked", "strange"))
    queries, alarm = _count(fields["queries"]), fields["alarm_at"]
    since, alarm = _times(since), None if alarm is None else float(_times(_numbers([alarm], 1))[0])
    if not np.all((strange >= 0) & (strange <= asked) & (asked <= queries)):
        raise ValueError(f"expected counts up to {queries}, found counts out of range")
    evidence = Evidence(queries, logs, since, asked.astype(np.int64), strange.astype(np.int64), alarm)
    version, calibration = _count(fields["version"]), fields["calibration"]
    if not isinstance(calibration, str):
        raise ValueError(f"expected a calibration, found {calibration!r:.80}")
    return DriftState(version, calibration, bets, evidence, float(_numbers([fields["once_in"]], 1)[0]))


def _times(seconds: Doubles) -> Doubles:
    if ((seconds < 0) | (seconds > _LATEST)).any():
        raise ValueError("expected times before the year 5000")
    return seconds


def _count(found: Any) -> int:
    if type(found) is not int or not 0 <= found < 1 << 53:
        raise ValueError(f"expected a count, found {found!r}")
    return found


def _numbers(found: Any, count: int) -> Doubles:
    """Return the values as an array of `count` finite numbers."""
    values = np.array(found, np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"expected {count} finite numbers, found {found!r:.80}")
    return values
