"""Build the fastest index that meets a target, as measured on held-out queries.

Each candidate (index.ann.candidates) is built over a sample, or over all embeddings if there are few, and measured with
ascending search parameters. The fastest index that meets the target is then built over all embeddings, and its search
parameters are tuned again.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from lookalike.index.ann.candidates import Candidate, candidates, training_rows
from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import K, RecallBenchmark
from lookalike.index.ann.spec import IndexSpec
from lookalike.index.ann.target import (
    Target,
    TuningTrial,
    fastest,
    in_speed,
    least_effort,
    meets,
    unreachable_target,
    with_front,
)
from lookalike.index.ann.vectors import VectorIndex
from lookalike.training.array_types import Floats
from lookalike.training.progress import progress_bar

__all__ = ["TuningResult", "tune"]

REHEARSAL = 1 << 16
"""The most vectors to choose the kind of index with; more are sampled."""
SECONDS = 40.0
"""The time for all trials over up to 65,536 vectors; the first kind is always tried."""
COARSE = 0.8
"""Up to this recall, only powers of two are tried for the innermost parameter."""
SURE = 0.995
"""From this recall on, larger parameter values are not tried."""
LEAST_GAIN = 0.0005
ATTEMPTS = 3
"""The most kinds that are timed again and, if there are many vectors, built over all until one meets the target."""
ROUNDS = 5
EVIDENCE = ("recall", "low", "high", "latency_us", "batch_us", "bytes")
GLIMPSE = 2_000
"""Vectors to build a graph over to estimate the build time for all vectors."""


@dataclass(frozen=True)
class TuningResult:
    """The chosen index, all trials, and the kinds that were skipped with the reasons."""

    index: VectorIndex
    chosen: TuningTrial
    trials: list[TuningTrial]
    skipped: dict[str, str]
    seconds: float
    queries: int

    @property
    def evidence(self) -> dict[str, Any]:
        """The measurements of the chosen index, for the manifest."""
        figures = {name: getattr(self.chosen, name) for name in EVIDENCE}
        return {"k": K, "queries": self.queries, **figures}

    def told(self, target: Target) -> dict[str, Any]:
        """Return the trials, the choice and its reason, for the manifest."""
        met = sum(meets(trial, target) for trial in self.trials)
        which = f"the fastest of {met} trials that meet the target, of {len(self.trials)}"
        each = f"{self.chosen.bytes / self.chosen.items:.1f} bytes per item"
        return {
            "target": asdict(target),
            "chosen": asdict(self.chosen),
            "reason": f"recall {self.chosen.recall:.4f} (at least {self.chosen.low:.4f}) in "
            f"{self.chosen.latency_us:.1f} µs and {each}: {which if len(self.trials) > 1 else 'the only trial'}",
            "trials": [asdict(trial) for trial in self.trials],
            "skipped": self.skipped,
            "seconds": round(self.seconds, 2),
        }


def tune(
    embeddings: Embeddings, queries: Floats, target: Target, *, total: int = 0, seconds: float = SECONDS
) -> TuningResult:
    """Return the fastest index over `embeddings` that meets the target.

    Args:
        queries: (m, dim) held-out queries that are not among the embeddings; if empty, the embeddings are the queries.
        total: the final number of items, if more are added later, for the memory limit.
        seconds: the time for choosing the kind; no more kinds are tried after it.

    Raises:
        TargetError: no candidate meets the target; the error says which requirement to relax, and by how much.
        ConfigError: `target.key` is not a valid index for these embeddings.
    """
    clock, total = _Clock(seconds), max(total, len(embeddings))
    finalists, trials = list[_Finalist](), list[TuningTrial]()
    kinds = [Candidate(target.key.replace("{", "{{").replace("}", "}}"))] if target.key else []
    if not target.key:
        finalists, trials = _rehearse(embeddings, queries, target, total, clock)
        kinds = [finalist.kind for finalist in finalists]

    def result(index: VectorIndex, chosen: TuningTrial) -> TuningResult:
        index.set_search(chosen.search)
        count = len(queries) or len(embeddings)
        return TuningResult(index, chosen, with_front(trials), clock.skipped, clock.tuning(), count)

    if finalists and len(finalists[0].index) == len(embeddings):  # the rehearsal used all embeddings
        return result(finalists[0].index, finalists[0].trial)
    benchmark = None
    for kind in kinds:
        benchmark = benchmark or _benchmark(embeddings, queries)
        spec = IndexSpec(kind.key_for(len(embeddings), embeddings.dim), embeddings.metric)
        index = _build(spec, embeddings, clock)
        sweep = list(_sweep(index, benchmark, target.recall))
        trials += sweep
        if met := [trial for trial in sweep if meets(_scaled(trial, total), target)]:
            return result(index, fastest(least_effort(met)))
    raise unreachable_target([_scaled(trial, total) for trial in trials], target)


def _scaled(trial: TuningTrial, total: int) -> TuningTrial:
    """Return the trial with its bytes scaled to `total` items."""
    return replace(trial, bytes=-(-trial.bytes * total // trial.items))


class _Clock:
    """Measures the time for tuning: the time since the start, without building the final index."""

    def __init__(self, seconds: float) -> None:
        self.started = time.perf_counter()
        self.seconds = seconds
        self.building = 0.0
        self.skipped: dict[str, str] = {}

    def tuning(self) -> float:
        return time.perf_counter() - self.started - self.building


@dataclass
class _Finalist:
    """A kind that met the target in the rehearsal, with its best trial and the index of the rehearsal."""

    kind: Candidate
    trial: TuningTrial
    index: VectorIndex


def _rehearse(
    everything: Embeddings, queries: Floats, target: Target, total: int, clock: _Clock
) -> tuple[list[_Finalist], list[TuningTrial]]:
    """Try all kinds, over a sample if embeddings are many; return the finalists, fastest first, and all trials."""
    count, dim, embeddings = len(everything), everything.dim, everything
    if count > REHEARSAL:
        embeddings = Embeddings(everything.at(everything.sample(REHEARSAL, seed=0)), everything.metric)
        target = replace(target, latency_us=None)
    benchmark = _benchmark(embeddings, queries)
    kinds = candidates(count, dim)
    trials: list[TuningTrial] = []
    finalists: list[_Finalist] = []
    with progress_bar("tuning", len(kinds), "kinds of index") as advance:
        for number, kind in enumerate(kinds):
            spec = IndexSpec(kind.key_for(len(embeddings), dim), embeddings.metric)
            advance(1, spec.key)
            if number and (reason := _too_slow(spec, embeddings, clock, target_met=bool(finalists))):
                clock.skipped[spec.key] = reason
                continue
            index = _build(spec, embeddings)
            sweep = list(_sweep(index, benchmark, target.recall))
            trials += sweep
            met = [trial for trial in sweep if meets(_scaled(trial, total), target)]
            if met and spec.key not in {finalist.trial.key for finalist in finalists}:
                finalists.append(_Finalist(kind, fastest(least_effort(met)), index))
                finalists = sorted(finalists, key=lambda finalist: finalist.trial.latency_us)[:ATTEMPTS]
    return _time_again(finalists, benchmark, trials), trials


def _time_again(finalists: list[_Finalist], benchmark: RecallBenchmark, trials: list[TuningTrial]) -> list[_Finalist]:
    """Time the finalists again, in turns so that other load affects all equally; return them, fastest first."""
    if len(finalists) < 2:
        return finalists
    times: dict[str, list[tuple[float, float]]] = {finalist.trial.key: [] for finalist in finalists}
    for _ in range(ROUNDS):
        for finalist in finalists:
            finalist.index.set_search(finalist.trial.search)
            times[finalist.trial.key].append(benchmark.time(finalist.index))
    for finalist in finalists:
        latency, batch = (min(column) for column in zip(*times[finalist.trial.key], strict=True))
        updated = replace(finalist.trial, latency_us=latency, batch_us=batch)
        trials[trials.index(finalist.trial)] = finalist.trial = updated
    order = in_speed([finalist.trial for finalist in finalists])
    return sorted(finalists, key=lambda finalist: order.index(finalist.trial))


def _benchmark(embeddings: Embeddings, queries: Floats) -> RecallBenchmark:
    if len(queries):
        return RecallBenchmark(embeddings, queries)
    positions = np.arange(len(embeddings))
    return RecallBenchmark(embeddings, embeddings.at(positions), positions)


def _build(spec: IndexSpec, embeddings: Embeddings, clock: _Clock | None = None) -> VectorIndex:
    """Return an index that is trained on a sample and filled block by block."""
    started = time.perf_counter()
    index = VectorIndex(spec, embeddings.dim)
    index.train(embeddings.at(embeddings.sample(training_rows(index), seed=0)))
    with progress_bar("indexing", len(embeddings), "items", shown=clock is not None) as advance:
        for positions, block in embeddings.blocks():
            index.add(block)
            advance(len(positions), spec.key)
    if clock:
        clock.building += time.perf_counter() - started
    return index


def _too_slow(spec: IndexSpec, embeddings: Embeddings, clock: _Clock, *, target_met: bool) -> str:
    """Return why there is too little time to try an index; "" if there is enough.

    Three times as much time is available until an index has met the target.
    """
    left = clock.seconds * (1 if target_met else 3) - clock.tuning()
    if left <= 0:
        return "no time was left"
    if not VectorIndex(spec, embeddings.dim).search_params.is_graph or len(embeddings) <= GLIMPSE:
        return ""
    started = time.perf_counter()
    _build(spec, embeddings.head(GLIMPSE))
    needed = (time.perf_counter() - started) * (len(embeddings) / GLIMPSE) ** 1.1
    return f"its build would take about {needed:.0f} s, and {left:.0f} s were left" if needed > left else ""


def _sweep(index: VectorIndex, benchmark: RecallBenchmark, recall: float) -> Iterator[TuningTrial]:
    """Yield a trial for each value of the search parameters, ascending until recall stops rising or is high enough."""
    size, sure = index.bytes, False
    *outer, inner = index.search_params.grids().items() or [("", (0,))]
    for chosen in product(*([f"{name}={value}" for value in values] for name, values in outer)):
        last, idle = 0.0, 0
        for value in inner[1]:
            if 0 < last < COARSE and value & (value - 1):
                continue
            index.set_search(",".join(filter(None, (*chosen, f"{inner[0]}={value}" if value else ""))))
            measured, _ = benchmark.take(index)
            figures = {name: getattr(measured, name) for name in EVIDENCE[:-1]}
            yield TuningTrial(index.spec.key, index.spec.search, **figures, bytes=size, items=len(index))
            sure = measured.recall >= SURE and measured.low >= recall
            idle = idle + 1 if last and measured.recall - last < LEAST_GAIN else 0
            if sure or idle > 1:
                break
            last = measured.recall
        if sure:
            break
