"""Does the doctor name mechanisms that its rules were not tuned on? A second study.

Each mechanism of `benchmarks.mechanism_list` is put into a user's own loop: on pictures, windows of a recording and a
table, with two seeds, which also choose activation, batch norm, loss and optimizer. A draw with seed 17 divides the
mechanisms into halves: rules and thresholds may use the tuning half, and the figures are of the other half.

found        any finding on a faulty run
right first  the first finding is a cause that names the mechanism
wrong        the first finding is another cause, stated as certain or likely
likely       of the findings stated as likely that come first, the share that is right
false alarm  any finding on a healthy run: the same loops without a fault, and runs with drawn settings
             (`benchmarks.faults.healthy_setting`), of which `benchmarks.diagnosis` would include the same
"""

import argparse
import json
import multiprocessing
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.faults import DATASETS, SIZES, Setting, healthy_setting, run_setting
from benchmarks.mechanism_list import MECHANISMS
from benchmarks.mechanisms import KINDS, Loop, run_loop
from benchmarks.report import Bar, Row, report, row
from lookalike.training.doctor.causes import diagnose
from lookalike.training.progress import progress_bar

__all__ = ["Run", "Verdict", "figures", "halves", "main"]

DRAW = 17
WORSE, POINTS = 1.5, 0.05
PARTS = ("tuning", "report")


@dataclass(frozen=True)
class Run:
    """One run: a mechanism or "" for none, on rows of a kind; or drawn settings on a data set."""

    mechanism: str
    kind: str
    seed: int


@dataclass(frozen=True)
class Verdict:
    """The findings on a run, as pairs of a cause and how sure it is, and the variance left unexplained, if known."""

    run: Run
    findings: list[list[str]]
    unexplained: float | None = None


def halves() -> dict[str, list[str]]:
    """Return the mechanisms of each half."""
    names = sorted(MECHANISMS)
    random.Random(DRAW).shuffle(names)
    middle = len(names) // 2
    return {"tuning": names[:middle], "report": names[middle:]}


def judge(run: Run) -> Verdict:
    """Run and diagnose."""
    unexplained = None
    if run.kind in KINDS:
        state = run_loop(MECHANISMS[run.mechanism][1] if run.mechanism else Loop(), run.kind, run.seed)
    else:
        shipped = run.seed < 0
        setting = Setting(run.kind, SIZES[0], -run.seed) if shipped else healthy_setting(run.kind, run.seed)
        outcome = run_setting(setting)
        state, unexplained = outcome.state, outcome.unexplained
    return Verdict(run, [[finding.cause, finding.sure] for finding in diagnose(state)], unexplained)


def figures(verdicts: list[Verdict], names: list[str]) -> dict[str, float]:
    """Return the shares of the study over the runs of these mechanisms and over the healthy runs."""
    faulty = [v for v in verdicts if v.run.mechanism in names]
    firsts = [(v.findings[0] if v.findings else ["", ""], MECHANISMS[v.run.mechanism][0]) for v in faulty]
    right = [cause in names_it for (cause, _), names_it in firsts]
    stated = [sure in {"certain", "likely"} for (_, sure), _ in firsts]
    likely = [good for good, ((_, sure), _) in zip(right, firsts, strict=True) if sure == "likely"]
    healthy = _healthy(verdicts)
    return {
        "found": sum(bool(v.findings) for v in faulty) / max(1, len(faulty)),
        "right": sum(right) / max(1, len(faulty)),
        "wrong": sum(told and not good for told, good in zip(stated, right, strict=True)) / max(1, len(faulty)),
        "likely": sum(likely) / max(1, len(likely)),
        "alarms": sum(bool(v.findings) for v in healthy) / max(1, len(healthy)),
        "faulty": len(faulty),
        "healthy": len(healthy),
    }


def _healthy(verdicts: list[Verdict]) -> list[Verdict]:
    """The runs without a fault; of drawn settings, those that do about as well as the shipped ones."""
    plain = [v for v in verdicts if not v.run.mechanism]
    drawn = [v for v in plain if v.unexplained is not None]
    worst = {v.run.kind: 0.0 for v in drawn}
    for v in drawn:
        if v.run.seed < 0:
            worst[v.run.kind] = max(worst[v.run.kind], v.unexplained or 0.0)
    return [v for v in plain if v.unexplained is None or v.unexplained <= WORSE * worst[v.run.kind] + POINTS]


def runs_of(seeds: int, healthy: int) -> list[Run]:
    """All runs: the mechanisms and plain loops on each kind of rows, and drawn settings on each data set."""
    loops = [Run(name, kind, seed) for name in MECHANISMS for kind in KINDS for seed in range(seeds)]
    plain = [Run("", kind, seed) for kind in KINDS for seed in range(healthy)]
    drawn = [Run("", data, seed) for data in DATASETS for seed in [-1, -2, *range(5_000, 5_000 + healthy)]]
    return loops + plain + (drawn if healthy else [])


def run_all(runs: list[Run], judged: Callable[[Run], Verdict], cache: Path) -> list[Verdict]:
    """Judge all runs in two processes; those in the file `cache`, which lists one a line, are not repeated."""
    done: dict[Run, Verdict] = {}
    if cache.exists():
        for line in cache.read_text(encoding="utf-8").splitlines():
            plain: dict[str, Any] = json.loads(line)
            verdict = Verdict(Run(**plain["run"]), plain["findings"], plain["unexplained"])
            done[verdict.run] = verdict
    missing = [run for run in runs if run not in done]
    with (
        progress_bar("studying", len(missing), "runs") as advance,
        ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool,
        cache.open("a", encoding="utf-8") as kept,
    ):
        for verdict in pool.map(judged, missing, chunksize=2):
            done[verdict.run] = verdict
            kept.write(json.dumps(asdict(verdict)) + "\n")
            kept.flush()
            advance(1, verdict.run.mechanism)
    return [done[run] for run in runs]


def misses(verdicts: list[Verdict], names: list[str]) -> Table:
    """One line per mechanism that was not always named first."""
    table = Table("mechanism", "kind", "seed", "findings")
    for verdict in verdicts:
        run = verdict.run
        expected = MECHANISMS[run.mechanism][0] if run.mechanism else ()
        first = verdict.findings[0][0] if verdict.findings else ""
        if (run.mechanism in names and first not in expected) or (not run.mechanism and first):
            told = ", ".join(f"{cause} ({sure})" for cause, sure in verdict.findings[:3])
            table.add_row(run.mechanism or "(healthy)", run.kind, str(run.seed), told or "nothing")
    return table


def _rows(told: dict[str, float]) -> list[Row]:
    return [
        row("mechanisms found", "share", ours=told["found"], bar=Bar("ours", ">=", 0.95)),
        row("right mechanism named first", "share", ours=told["right"], bar=Bar("ours", ">=", 0.85)),
        row("wrong cause stated as certain or likely", "share", ours=told["wrong"], bar=Bar("ours", "<=", 0.03)),
        row("right, of the first findings stated as likely", "share", ours=told["likely"]),
        row("false alarms on healthy runs", "share", ours=told["alarms"], bar=Bar("ours", "<=", 0.005)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="report")
    parser.add_argument("--seeds", type=int, default=2, help="for each mechanism and kind of rows")
    parser.add_argument("--healthy", type=int, default=60, help="for each kind of rows and each data set")
    parser.add_argument(
        "--cache", type=Path, default=Path("benchmarks/.mechanisms.jsonl"), help="delete it to begin again"
    )
    options = parser.parse_args()
    names = halves()[options.part]
    runs = [run for run in runs_of(options.seeds, options.healthy) if not run.mechanism or run.mechanism in names]
    verdicts = run_all(runs, judge, options.cache)
    told = figures(verdicts, names)
    Console(width=140).print(misses(_healthy(verdicts) + [v for v in verdicts if v.run.mechanism], names))
    note = f"{told['faulty']} faulty runs of {len(names)} mechanisms, {told['healthy']} healthy runs"
    report("mechanisms" if options.part == "report" else "mechanisms_tuning", _rows(told), note)


if __name__ == "__main__":
    main()
