"""Build the index that a target asks for, and prove on held-out queries that it has it.

Each candidate (index.ann.candidates) is built over a sample, or over all where there are few, and searched with rising
parameters; what no other beats in recall and in speed is the Pareto front. The fastest whose recall is surely enough
and whose bytes are few enough is built over all, and its parameters are tried again there.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.candidates import Candidate, candidates, training_rows
from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import K, RecallBenchmark
from lookalike.index.ann.spec import IndexSpec
from lookalike.index.ann.target import Target, TuningTrial, fastest, in_speed, least_effort, meets, unmet, with_front
from lookalike.index.ann.vectors import VectorIndex
from lookalike.training.progress import progress_bar

__all__ = ["TuningResult", "tune"]

REHEARSAL = 1 << 16
"""Vectors beyond so many are sampled to choose the kind of index."""
SECONDS = 40.0
"""For all trials over up to 65,536 vectors; the first kind is tried in any case."""
COARSE = 0.8
"""Recall up to which parameters are doubled."""
SURE = 0.995
"""Recall beyond which looking farther is not tried."""
LEAST_GAIN = 0.0005
ATTEMPTS = 3
"""Kinds that are timed again, and, where there are many vectors, built over all until one meets the target."""
ROUNDS = 5
EVIDENCE = ("recall", "low", "high", "latency_us", "batch_us", "bytes")
GLIMPSE = 2_000
"""Vectors to link, where links are slow to make, before it is said how long all would take."""


@dataclass(frozen=True)
class TuningResult:
    """The index, what was tried for it, what was not (and why not), and why it was chosen."""

    index: VectorIndex
    chosen: TuningTrial
    trials: list[TuningTrial]
    skipped: dict[str, str]
    seconds: float
    queries: int
    k: int = K

    @property
    def evidence(self) -> dict[str, Any]:
        """What was measured of the chosen one, for the manifest."""
        told = asdict(self.chosen)
        return {"k": self.k, "queries": self.queries, **{name: told[name] for name in EVIDENCE}}

    def told(self, target: Target) -> dict[str, Any]:
        """For the manifest: the whole table and the reason."""
        met = sum(meets(trial, target) for trial in self.trials)
        each = f"{self.chosen.bytes / self.chosen.items:.1f} bytes an item"
        return {
            "target": asdict(target),
            "chosen": asdict(self.chosen),
            "reason": f"recall {self.chosen.recall:.4f} (at least {self.chosen.low:.4f}) in "
            f"{self.chosen.latency_us:.1f} µs and {each}: the fastest of {met} trials that meet the target, "
            f"of {len(self.trials)}",
            "trials": [asdict(trial) for trial in self.trials],
            "skipped": self.skipped,
            "seconds": round(self.seconds, 2),
        }


def tune(
    embeddings: Embeddings, queries: NDArray[np.float32], target: Target, *, total: int = 0, seconds: float = SECONDS
) -> TuningResult:
    """The fastest index over `embeddings` that surely has the recall, within the bytes and the time.

    Args:
        queries: (m, dim) held-out queries that are not among the embeddings; where there are none, the embeddings
            ask for themselves.
        total: how many items there will be, where more are added later; the bytes are meant for so many.
        seconds: to choose the kind in; kinds beyond it are not tried.

    Raises:
        TargetError: no candidate meets the target; it says which of the three to give up, and by how much.
        ConfigError: `target.key` is no index for these.
    """
    clock, total = _Clock(seconds), max(total, len(embeddings))
    finals, trials = list[_Final](), list[TuningTrial]()
    kinds = [Candidate(target.key.replace("{", "{{").replace("}", "}}"))] if target.key else []
    if not target.key:
        finals, trials = _rehearsed(embeddings, queries, target, total, clock)
        kinds = [final.kind for final in finals]
    asked, exam = len(queries) or len(embeddings), None
    if finals and len(finals[0].index) == len(embeddings):  # the rehearsal was over all of them
        first = finals[0]
        first.index.set_search(first.trial.search)
        return TuningResult(first.index, first.trial, with_front(trials), clock.skipped, clock.tuning(), asked)
    for kind in kinds:
        exam = exam or _benchmark(embeddings, queries)
        spec = IndexSpec(kind.key_for(len(embeddings), embeddings.dim), embeddings.metric)
        index = _built(spec, embeddings, clock)
        swept = list(_swept(index, exam, target.recall))
        trials += swept
        if met := [trial for trial in swept if meets(_grown(trial, total), target)]:
            chosen = fastest(least_effort(met))
            index.set_search(chosen.search)
            return TuningResult(index, chosen, with_front(trials), clock.skipped, clock.tuning(), asked)
    raise unmet([_grown(trial, total) for trial in trials], target)


def _grown(trial: TuningTrial, total: int) -> TuningTrial:
    """As it would be over so many items."""
    return replace(trial, bytes=-(-trial.bytes * total // trial.items))


class _Clock:
    """How long the tuner took: all time since the start, without what building the index that is kept takes."""

    def __init__(self, seconds: float) -> None:
        self.began = time.perf_counter()
        self.seconds = seconds
        self.building = 0.0
        self.skipped: dict[str, str] = {}

    def tuning(self) -> float:
        return time.perf_counter() - self.began - self.building


@dataclass
class _Final:
    """A kind that met the target in the rehearsal: how, and the index that it was over what was rehearsed with."""

    kind: Candidate
    trial: TuningTrial
    index: VectorIndex


def _rehearsed(
    everyone: Embeddings, queries: NDArray[np.float32], target: Target, total: int, clock: _Clock
) -> tuple[list[_Final], list[TuningTrial]]:
    """The kinds that meet the target, over a sample where there are many, the fastest first; and all trials."""
    count, dim, embeddings = len(everyone), everyone.dim, everyone
    if count > REHEARSAL:
        embeddings = Embeddings(everyone.at(everyone.sample(REHEARSAL, seed=0)), everyone.metric)
        target = replace(target, latency_us=None)
    exam = _benchmark(embeddings, queries)
    kinds = candidates(count, dim)
    trials: list[TuningTrial] = []
    finals: list[_Final] = []
    with progress_bar("tuning", len(kinds), "kinds of index") as advance:
        for number, kind in enumerate(kinds):
            spec = IndexSpec(kind.key_for(len(embeddings), dim), embeddings.metric)
            advance(1, spec.key)
            if number and (why := _too_slow(spec, embeddings, clock, hurried=bool(finals))):
                clock.skipped[spec.key] = why
                continue
            index = _built(spec, embeddings)
            swept = list(_swept(index, exam, target.recall))
            trials += swept
            if met := [trial for trial in swept if meets(_grown(trial, total), target)]:
                finals = _nearly(finals, _Final(kind, fastest(least_effort(met)), index))
    return _played_off(finals, exam, trials), trials


def _nearly(finals: list[_Final], more: _Final) -> list[_Final]:
    """The fastest few, one of each description."""
    if any(final.trial.key == more.trial.key for final in finals):
        return finals
    return sorted([*finals, more], key=lambda final: final.trial.latency_us)[:ATTEMPTS]


def _played_off(finals: list[_Final], exam: RecallBenchmark, trials: list[TuningTrial]) -> list[_Final]:
    """Time the finalists again, in turns, so that what else the machine does meets them alike; the fastest first."""
    if len(finals) < 2:
        return finals
    times: dict[str, list[tuple[float, float]]] = {final.trial.key: [] for final in finals}
    for _ in range(ROUNDS):
        for final in finals:
            final.index.set_search(final.trial.search)
            times[final.trial.key].append(exam.time(final.index))
    for final in finals:
        latency, batch = (min(column) for column in zip(*times[final.trial.key], strict=True))
        again = replace(final.trial, latency_us=latency, batch_us=batch)
        trials[trials.index(final.trial)] = final.trial = again
    order = in_speed([final.trial for final in finals])
    return sorted(finals, key=lambda final: order.index(final.trial))


def _benchmark(embeddings: Embeddings, queries: NDArray[np.float32]) -> RecallBenchmark:
    if len(queries):
        return RecallBenchmark(embeddings, queries)
    everyone = np.arange(len(embeddings))
    return RecallBenchmark(embeddings, embeddings.at(everyone), everyone)


def _built(spec: IndexSpec, embeddings: Embeddings, clock: _Clock | None = None) -> VectorIndex:
    """Trained on a sample drawn over all, and filled block by block."""
    began = time.perf_counter()
    index = VectorIndex(spec, embeddings.dim)
    index.train(embeddings.at(embeddings.sample(training_rows(index), seed=0)))
    with progress_bar("indexing", len(embeddings), "items", shown=clock is not None) as advance:
        for places, block in embeddings.blocks():
            index.add(block)
            advance(len(places), spec.key)
    if clock:
        clock.building += time.perf_counter() - began
    return index


def _too_slow(spec: IndexSpec, embeddings: Embeddings, clock: _Clock, *, hurried: bool) -> str:
    """Why an index is not tried: what is left of the time, and what it would take; "" where there is enough.

    Until one has met the target, and it is `hurried`, there is three times as much.
    """
    left = clock.seconds * (1 if hurried else 3) - clock.tuning()
    if left <= 0:
        return "no time was left"
    if not VectorIndex(spec, embeddings.dim).search_params.is_graph or len(embeddings) <= GLIMPSE:
        return ""
    began = time.perf_counter()
    _built(spec, embeddings.head(GLIMPSE))
    needed = (time.perf_counter() - began) * (len(embeddings) / GLIMPSE) ** 1.1
    return f"its build would take about {needed:.0f} s, and {left:.0f} s were left" if needed > left else ""


def _swept(index: VectorIndex, exam: RecallBenchmark, recall: float) -> Iterator[TuningTrial]:
    """One trial for each of its search parameters' values, rising as long as that finds more, up to that recall."""
    size, sure = index.bytes, False
    *outer, inner = index.search_params.grids().items() or [("", (0,))]
    for chosen in product(*([f"{name}={value}" for value in values] for name, values in outer)):
        last, idle = 0.0, 0
        for value in inner[1]:
            if 0 < last < COARSE and value & (value - 1):
                continue
            index.set_search(",".join(filter(None, (*chosen, f"{inner[0]}={value}" if value else ""))))
            measured, _ = exam.take(index)
            told = {name: getattr(measured, name) for name in ("recall", "low", "high", "latency_us", "batch_us")}
            yield TuningTrial(index.spec.key, index.spec.search, **told, bytes=size, items=len(index))
            sure = measured.recall >= SURE and measured.low >= recall
            idle = idle + 1 if last and measured.recall - last < LEAST_GAIN else 0
            if sure or idle > 1:
                break
            last = measured.recall
        if sure:
            break
