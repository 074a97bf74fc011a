"""What the processes that serve an encoder have seen of drift, kept in its store and told together.

STORE/drift/0.json   what one process knows: version, calibration, queries, evidence, since when, the alarm; its bets
STORE/drift/0.lock   locked by the process whose file that is, for as long as it lives

A process takes the first number whose lock is free, so there are as many files as there were processes at a time. What
dead ones left of the calibration that it serves with it takes over, and goes on from there: a restart forgets nothing,
and no query counts twice. (Should it die between taking and writing, that is lost.) What they left of others it
removes. Files are replaced by a rename; nothing here has to outlive a power failure.

What belongs together is known by the calibration (index.versions.version.calibration_of), not by the version's number:
a compaction has another number, and judges queries as before.

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
from numpy.typing import NDArray

from lookalike.index.drift.detector import ONCE_IN, Bets, Evidence, joined
from lookalike.index.versions.manifest import FORMAT as VERSION_FORMAT
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import calibration_of
from lookalike.training.sealed import read_manifest, replacing

__all__ = ["FOLDER", "Drift", "DriftFile", "DriftState", "drift_of", "merged", "read_drift", "read_states", "told"]

FOLDER = "drift"
"""In a store's folder."""
FORMAT = "lookalike-drift-2"
"""Other levels or shares in index.drift.detector are another format."""
_MOST_BYTES = 1 << 16
_LATEST = 95_617_584_000.0
_DAMAGE = (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError)


class DriftState(NamedTuple):
    """What queries told, for an alarm once in so many normal ones.

    Attributes:
        version: that served last; it says nothing of what belongs together.
        calibration: by which the queries were judged (index.versions.version.calibration_of).
    """

    version: int
    calibration: str
    bets: Bets
    evidence: Evidence
    once_in: float = ONCE_IN


@dataclass(frozen=True)
class Drift:
    """What all queries that were judged by a version's calibration say together.

    Attributes:
        version: that serves, or is asked about.
        queries: seen, by so many `processes` that live or that nobody took over from.
        evidence: its log10; at that of `once_in`, the normal queries to a false alarm, it alarms. -inf of no query.
        alarm: when it first did, in seconds since 1970; None if it never did.
        since: when the change began, if there is one: the run of the bet that won most. Seconds since 1970.
        level: of that bet; `strange` of the `asked` queries since then had a p-value that is at most that.
        rate: the highest share of them that normal data may have.
        damaged: files that were ignored, and why.
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
        """Has it alarmed? A process says so until it serves another encoder."""
        return self.alarm is not None or self.evidence >= math.log10(self.once_in)


def drift_of(store: Store) -> Drift:
    """Of the champion's queries, and of those to the versions that it was compacted from.

    Raises:
        StoreError: none was promoted yet, or it is gone.
        ArtifactError: its manifest is damaged.
    """
    number = store.champion_number()
    return read_drift(store.folder / FOLDER, number, calibration_of(read_manifest(store.path(number), VERSION_FORMAT)))


def read_drift(folder: Path, version: int, calibration: str) -> Drift:
    """What the files say of a calibration's queries, told as the version's. Others, and damaged ones, do not count."""
    states, damaged = read_states(folder, calibration)
    if not states:
        return Drift(version, damaged=damaged)
    seen = merged(states)
    return replace(told(seen), version=version, processes=len(states), damaged=damaged)


def told(seen: DriftState) -> Drift:
    """What one process saw, or several together, as a person reads it."""
    evidence, best = seen.evidence, seen.evidence.leading
    whole = Drift(
        seen.version, evidence.queries, 1, evidence.total / math.log(10), once_in=seen.once_in, alarm=evidence.alarm
    )
    if best is None:
        return whole
    return replace(
        whole,
        since=float(evidence.since[best]),
        level=float(seen.bets.levels[best]),
        rate=float(seen.bets.rates[best]),
        asked=int(evidence.asked[best]),
        strange=int(evidence.strange[best]),
    )


def merged(states: list[DriftState]) -> DriftState:
    """Of one calibration, one at least, told together."""
    first = states[0]
    evidence = reduce(lambda one, other: joined(one, other, first.bets), (state.evidence for state in states))
    return first._replace(evidence=evidence, once_in=max(state.once_in for state in states))


def read_states(folder: Path, calibration: str, but: str = "") -> tuple[list[DriftState], tuple[str, ...]]:
    """Each file's but one's, of that calibration; and which files were ignored, and why."""
    states: list[DriftState] = []
    damaged: list[str] = []
    for path in sorted(folder.glob("*.json")):
        if path.name == but:
            continue
        try:
            state = _read(path)
            if state.calibration == calibration and states and state.bets != states[0].bets:
                raise ValueError(f"{state.bets.rows} calibration rows, where {states[0].bets.rows} are")
        except FileNotFoundError:  # taken over in the meantime
            continue
        except _DAMAGE as error:
            damaged.append(f"{path}: {error!r}")
            continue
        if state.calibration == calibration:
            states.append(state)
    return states, tuple(damaged)


class DriftFile:
    """A process's own file among those of a store; use it from one thread at a time.

    Every method raises OSError where the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[bytes] | None = None
        self._path = folder

    def take_over(self, calibration: str) -> DriftState | None:
        """What dead processes, and this one, left of a calibration; all their files are removed. None: nothing."""
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
        return merged(states) if states else None

    def write(self, seen: DriftState) -> None:
        """Replace what this process knows."""
        self._claim()
        with replacing(self._path, durable=False) as new:
            new.write_text(json.dumps(_as_json(seen), allow_nan=False) + "\n", encoding="utf-8")

    def others(self, calibration: str) -> tuple[list[DriftState], tuple[str, ...]]:
        """What the other files say, as `read_states` does."""
        return read_states(self._folder, calibration, self._path.name)

    def close(self) -> None:
        """Leave the file to whoever comes next."""
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
    """The file, locked until it is closed or this process ends; None where a live one has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file


def _as_json(seen: DriftState) -> dict[str, Any]:
    """After one query at least, so that every number is finite."""
    evidence, drift = seen.evidence, told(seen)
    return {
        "format": FORMAT,
        "version": seen.version,
        "calibration": seen.calibration,
        "calibration_rows": seen.bets.rows,
        "queries": evidence.queries,
        "evidence": drift.evidence if len(seen.bets) else None,
        "once_in": seen.once_in,
        "alarm_at": evidence.alarm,
        "changed_since": drift.since,
        "bets": {name: getattr(evidence, name).tolist() for name in ("logs", "since", "asked", "strange")},
    }


def _read(path: Path) -> DriftState:
    """Raises one of _DAMAGE where it is not what `write` writes."""
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes")
    found = json.loads(text)
    if found["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {found['format']!r}")
    bets, kept = Bets(_count(found["calibration_rows"])), found["bets"]
    logs, since, asked, strange = (_numbers(kept[name], len(bets)) for name in ("logs", "since", "asked", "strange"))
    queries, alarm = _count(found["queries"]), found["alarm_at"]
    since, alarm = _times(since), None if alarm is None else float(_times(_numbers([alarm], 1))[0])
    if not np.all((strange >= 0) & (strange <= asked) & (asked <= queries)):
        raise ValueError(f"expected counts up to {queries}, found others")
    evidence = Evidence(queries, logs, since, asked.astype(np.int64), strange.astype(np.int64), alarm)
    version, calibration = _count(found["version"]), found["calibration"]
    if not isinstance(calibration, str):
        raise ValueError(f"expected a calibration, found {calibration!r:.80}")
    return DriftState(version, calibration, bets, evidence, float(_numbers([found["once_in"]], 1)[0]))


def _times(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    if ((seconds < 0) | (seconds > _LATEST)).any():
        raise ValueError("expected times before the year 5000")
    return seconds


def _count(found: Any) -> int:
    if type(found) is not int or not 0 <= found < 1 << 53:
        raise ValueError(f"expected a count, found {found!r}")
    return found


def _numbers(found: Any, count: int) -> NDArray[np.float64]:
    """(count,) finite."""
    values = np.array(found, np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"expected {count} finite numbers, found {found!r:.80}")
    return values
