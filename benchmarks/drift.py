"""How many queries pass before drift is found, and how many alarms are false?

Versions of three kinds of data, trained and built here on all but one kind of row, and queried with rows that neither
the training nor the calibration has seen:

digits          without the class 9, about 130 calibration rows, 5 versions with different seeds
sensors         12 correlated sensors, made here: 3 hidden causes, each sensor with its own mean and noise; the
                new class has different loads of the causes; 10,000 rows, 1,000 calibration rows, 5 versions with
                different seeds
fashion-mnist   without ankle boots, 5,400 calibration rows; skipped if it is not installed

A run sends 5,000 normal queries, drawn repeatedly from the held-out rows, and then changed queries: with a new class
among them, with a scale (of one sensor; of all pixels) that moved by 10 % up or down, with noise that grows in ten
steps, one every 2,000 queries, to a tenth of the range (for sensors: to their deviation). Delay: queries from the
change to the alarm, over 20 seeds, which also vary the versions; a run ends 50,000 queries after the change, and is
left out if it raised an alarm before the change. False alarms: over 20 runs of 100,000 normal queries.

ours    index.drift.detector, at most one false alarm in 10^6 queries
peer    the Kolmogorov-Smirnov test of each 1,000 consecutive p-values against those of the calibration rows, one-sided
        like ours (N. Smirnov, 1939), at the level that would alarm once in 10^6 queries: 0.001 per window
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import Bar, Row, report, row
from lookalike.index.ann.target import Target
from lookalike.index.drift.detector import ONCE_IN, Bets, Detector, Evidence
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.config import load_config
from lookalike.training.errors import DataError
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample
from lookalike.training.rows.arrays import array_rows

__all__ = ["main"]

SEEDS = 20
BEFORE, AFTER = 5_000, 50_000
NORMAL = 100_000
STEP = 8
"""Queries that are tested together; a delay is exact to this number."""
WINDOW = 1_000
STEPS_OF_NOISE, NOISE_STAYS = 10, 2_000
MOST_HELD = 4_000
NEW_SHARES = (0.05, 0.2, 0.5)
SENSORS, CAUSES = 12, 3
MADE = 10_000

Rows2D = NDArray[np.float32]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """Rows to train on, held-out rows, rows of a new class, and functions that change the scale and add noise."""

    train: Rows2D
    held: Rows2D
    new: Rows2D
    scale: Callable[[Rows2D, float], Rows2D]
    noise: Callable[[Rows2D, float, np.random.Generator], Rows2D]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pools:
    """p-values to draw from: one version's for each kind of query. `noise`: by rising level."""

    calibration: int
    normal: Reals
    new: Reals
    scaled: Mapping[str, Reals]
    noise: list[Reals]


def pictures(name: str, without: int, full: float, settings: tuple[str, ...]) -> Source:
    """A source with labels, without one class."""
    (rows, labels), (tests, test_labels) = (
        read_sample(part, part.count, seed=0) for part in (open_rows(name), open_rows(f"{name}:test"))
    )
    kept, new = np.array(labels) != without, np.array(test_labels) == without
    return Source(
        rows[kept],
        tests[~new][:MOST_HELD],
        tests[new],
        lambda x, factor: (x * factor).astype(np.float32),
        lambda x, share, rng: (x + share * 0.1 * full * rng.standard_normal(x.shape)).astype(np.float32),
        settings,
    )


def sensors(seed: int) -> Source:
    """Readings that a few hidden causes explain, each around its own mean."""
    rng = np.random.default_rng(seed)
    loads, other = rng.standard_normal((2, CAUSES, SENSORS))
    means, own = rng.uniform(5, 50, SENSORS), rng.uniform(0.2, 0.5, SENSORS)

    def read(count: int, by: Reals) -> Rows2D:
        causes = rng.standard_normal((count, CAUSES))
        return (means + causes @ by + own * rng.standard_normal((count, SENSORS))).astype(np.float32)

    spread = np.sqrt((loads**2).sum(axis=0) + own**2)
    first = np.arange(SENSORS) == 0
    return Source(
        read(MADE, loads),
        read(MADE, loads),
        read(MADE, other),
        lambda x, factor: np.where(first, x * factor, x).astype(np.float32),
        lambda x, share, noise_rng: (x + share * spread * noise_rng.standard_normal(x.shape)).astype(np.float32),
        ("model.latent_dim=3", "fit.epochs=10"),
    )


def pools(source: Source, seed: int) -> Pools:
    """Train, build, and query with every kind of query."""
    with TemporaryDirectory() as folder:
        rows = array_rows(source.train, "drift")
        run = Path(folder) / "run"
        train(rows, load_config(None, [*source.settings, f"fit.seed={seed}"]), run)
        store = Store(Path(folder) / "store")
        version = store.open(build(rows, run, store, target=Target(key="Flat"), device="cpu"))
        rng = np.random.default_rng(seed)
        shares = np.arange(STEPS_OF_NOISE + 1) / STEPS_OF_NOISE
        return Pools(
            len(version.novelty.rows),
            p_values(version, source.held),
            p_values(version, source.new),
            {f"{factor:g}": p_values(version, source.scale(source.held, factor)) for factor in (0.9, 1.1)},
            [p_values(version, source.noise(source.held, share, rng)) for share in shares],
        )


def p_values(version: Version, rows: Rows2D) -> Reals:
    """Return (n,): each row's p-value."""
    parts = np.array_split(rows, max(1, len(rows) // 1_000))
    return np.concatenate([version.searcher.search_rows(part, 10).novelty for part in parts])


def changed(kind: str, of: Pools, rng: np.random.Generator) -> Reals:
    """Return (AFTER,) p-values of queries after a change."""
    normal = rng.choice(of.normal, AFTER)
    if kind in of.scaled:
        return rng.choice(of.scaled[kind], AFTER)
    if kind == "noise":
        level = np.minimum(np.arange(AFTER) // NOISE_STAYS, STEPS_OF_NOISE)
        drawn = np.stack([rng.choice(pool, AFTER) for pool in of.noise])  # (levels, AFTER)
        grown: Reals = drawn[level, np.arange(AFTER)]
        return grown
    return np.where(rng.random(AFTER) < float(kind), rng.choice(of.new, AFTER), normal)


def our_alarm(values: Reals, calibration: int) -> int | None:
    """After how many of the queries the alarm is raised; None if it is not."""
    bets = Bets(calibration)
    detector = Detector(bets, Evidence.none(bets, 0.0))
    for start in range(0, len(values), STEP):
        detector.add(values[start : start + STEP], 0.0)
        if detector.evidence.alarm is not None:
            return start + STEP
    return None


def peers_alarm(values: Reals, calibration: int) -> int | None:
    """The same for the peer's windows."""
    most = np.sqrt(np.log(ONCE_IN / WINDOW) / 2 * (1 / WINDOW + 1 / calibration))
    windows = np.sort(values[: len(values) // WINDOW * WINDOW].reshape(-1, WINDOW), axis=1)
    gaps = (np.arange(1, WINDOW + 1) / WINDOW - windows).max(axis=1)  # windows with too many small p-values
    found = np.flatnonzero(gaps > most)
    return (int(found[0]) + 1) * WINDOW if len(found) else None


ALARMS: dict[str, Callable[[Reals, int], int | None]] = {"ours": our_alarm, "peer": peers_alarm}


def delays(kind: str, versions: list[Pools]) -> dict[str, list[float]]:
    """Each seed's delay by method, infinite if the change was not found; runs with an earlier alarm are left out."""
    found: dict[str, list[float]] = {name: [] for name in ALARMS}
    for seed in range(SEEDS):
        rng, of = np.random.default_rng(seed), versions[seed % len(versions)]
        values = np.concatenate([rng.choice(of.normal, BEFORE), changed(kind, of, rng)])
        for name, alarm in ALARMS.items():
            at = alarm(values, of.calibration)
            if at is None or at > BEFORE:
                found[name].append(np.inf if at is None else at - BEFORE)
    return found


def delay_rows(name: str, versions: list[Pools]) -> Iterator[Row]:
    """The median and the 90th percentile of the delays, and how often a change was found."""
    kinds = {f"{share:g}": f"a new class, {share:.0%} of the queries" for share in NEW_SHARES}
    kinds |= {"1.1": "scale up by 10 %", "0.9": "scale down by 10 %", "noise": "noise that grows"}
    for kind, claim in kinds.items():
        found = delays(kind, versions)
        for what, share in (("median", 0.5), ("90 %", 0.9)):
            each = {m: float(np.quantile(d, share, method="higher")) if d else np.inf for m, d in found.items()}
            known = {m: value if np.isfinite(value) else None for m, value in each.items()}
            yield row(f"{name}: {claim}, delay, {what}", "queries", ours=known["ours"], peer=known["peer"])
        shares = {m: statistics.fmean(map(np.isfinite, d)) if d else 0.0 for m, d in found.items()}
        yield row(f"{name}: {claim}, found", "share of runs", ours=shares["ours"], peer=shares["peer"])
        print(f"{name}, {claim}: {found}", file=sys.stderr, flush=True)


def false_alarms(name: str, versions: list[Pools]) -> Row:
    """False alarms in runs of normal queries."""
    counts = dict.fromkeys(ALARMS, 0)
    for seed in range(SEEDS):
        of = versions[seed % len(versions)]
        values = np.random.default_rng(1_000 + seed).choice(of.normal, NORMAL)
        for method, alarm in ALARMS.items():
            counts[method] += alarm(values, of.calibration) is not None
    claim = f"{name}: false alarms, {SEEDS} runs of {NORMAL:,} normal queries"
    bar = Bar("ours", "<=", SEEDS * NORMAL / ONCE_IN)
    return row(claim, "runs", ours=counts["ours"], peer=counts["peer"], bar=bar)


def sources() -> Iterator[tuple[str, list[Pools]]]:
    """Each kind of data with its versions."""
    digits = pictures("digits", 9, 16, ("fit.epochs=30",))
    yield "digits", [pools(digits, seed) for seed in range(5)]
    yield "sensors", [pools(sensors(seed), seed) for seed in range(5)]
    try:
        fashion = pictures("fashion-mnist", 9, 255, ("fit.epochs=5",))
    except DataError as error:
        print(f"without fashion-mnist: {error}", file=sys.stderr)
        return
    yield "fashion-mnist", [pools(fashion, 0)]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(2)
    faiss.omp_set_num_threads(2)
    rows = list(chain.from_iterable([false_alarms(name, of), *delay_rows(name, of)] for name, of in sources()))
    report("drift", rows, "no delay: given up in more than half, or a tenth, of the runs")


if __name__ == "__main__":
    main()
