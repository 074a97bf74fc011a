"""Is the doctor right? An injection study: it diagnoses runs with a known fault, and healthy runs, from their history.

Each cause of `benchmarks.faults` x data sets x seeds x two sizes of model; the variants of a cause take turns. The
thresholds in `training/doctor` were set on seeds 0 to 7; the published figures are from seeds 8 to 10, which were not
used to set anything. Healthy runs draw activation, loss, optimizer, rate, schedule, batch norm, dropout, clipping,
decay and corruption at random; a run is included if it is within 1.5 times (and 5 points) of the worst run of the
shipped settings.

found       any finding on a faulty run            named      the injected cause is the first finding
false alarm any finding on a healthy run
A bottleneck of one dimension is included if it left 1.5 times as much unexplained as the shipped settings do.

healed      the first advice, applied: the cause is gone, and the share of variance left unexplained is within 1.5 times
            (and 5 points) of the same run with the shipped settings; advice about code is followed too

--part tuning reports on the other half. Results are kept in --cache, by a digest of the code that computed them, so
that an interrupted study can continue.
"""

import argparse
import collections
import hashlib
import json
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.faults import DATASETS, FAULTS, SIZES, Fault, Setting, healthy_setting, run_setting
from benchmarks.report import Bar, report, row
from lookalike.training.doctor.causes import diagnose
from lookalike.training.progress import progress_bar

__all__ = ["main"]

TUNED_ON = ("digits", "fashion-mnist", "wine", "breast_cancer")
PARTS = {
    "tuning": [(data, seed) for data in TUNED_ON for seed in (0, 1)],
    "report": [(data, seed) for data in DATASETS for seed in (8, 9, 10)],
}
HEALTHY = {"tuning": range(30), "report": range(3000, 3030)}
WORSE, POINTS = 1.5, 0.05


@dataclass(frozen=True)
class Job:
    """One run of the study; `cause` is "" for a healthy run and "shipped" for the shipped settings."""

    cause: str
    dataset: str
    size: str
    seed: int


@dataclass(frozen=True)
class Verdict:
    """The doctor's findings, and the result of its first advice."""

    job: Job
    causes: list[str]
    unexplained: float
    after: list[str] | None = None
    unexplained_after: float | None = None


def judge(job: Job) -> Verdict:
    """Run, diagnose, follow the first advice if there is one, and run again."""
    setting = _setting(job)
    outcome = run_setting(setting)
    findings = diagnose(outcome.state)
    verdict = Verdict(job, [finding.cause for finding in findings], outcome.unexplained)
    if not setting.fault or not findings:
        return verdict
    first = findings[0]
    mended = replace(setting, advice=first.settings)
    if first.cause == job.cause and not _healed_by_settings(first.settings, setting.fault):
        mended = replace(setting, fault=Fault(setting.fault.settings), advice=first.settings)
    after = run_setting(mended)
    return replace(verdict, after=[f.cause for f in diagnose(after.state)], unexplained_after=after.unexplained)


def _setting(job: Job) -> Setting:
    if not job.cause:
        return healthy_setting(job.dataset, job.seed)
    fault = None
    if job.cause != "shipped":
        variants = FAULTS[job.cause]
        fault = variants[(job.seed * len(SIZES) + SIZES.index(job.size)) % len(variants)]
    return Setting(job.dataset, job.size, job.seed, (), fault)


def _healed_by_settings(settings: tuple[str, ...], fault: Fault) -> bool:
    """Whether the advice leaves the user's code unchanged: the fault is in settings, or settings outweigh it."""
    return bool(settings) and not (fault.own_output or fault.loop)


def run_all(jobs: list[Job], cache: Path) -> list[Verdict]:
    """Run all jobs in two processes with one thread each; skip the jobs that are in the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not _kept(cache, job).exists()]
    random.Random(0).shuffle(missing)  # mix short and long jobs, so that the estimate of the remaining time is right
    with (
        progress_bar("studying", len(missing), "runs") as advance,
        ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool,
    ):
        for job, verdict in zip(missing, pool.map(judge, missing), strict=True):
            making = cache / ".making"
            making.write_text(json.dumps(asdict(verdict)), encoding="utf-8")
            making.replace(_kept(cache, job))
            advance(1, job.cause)
    return [_read(_kept(cache, job)) for job in jobs]


def _kept(cache: Path, job: Job) -> Path:
    return cache / (hashlib.sha256(repr(job).encode()).hexdigest()[:24] + ".json")


def _digest_of_the_code() -> str:
    here = Path(__file__).parent
    sources = [here / "faults.py", *sorted((here.parent / "training").rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def _read(path: Path) -> Verdict:
    plain = json.loads(path.read_text(encoding="utf-8"))
    return Verdict(**{**plain, "job": Job(**plain["job"])})


def jobs_of(part: str) -> list[Job]:
    """All runs of one half of the study."""
    cells = [(data, size, seed) for (data, seed), size in product(PARTS[part], SIZES)]
    faulty = [Job(cause, *cell) for cause in ("shipped", *FAULTS) for cell in cells]
    datasets = dict.fromkeys(data for data, _ in PARTS[part])
    return faulty + [Job("", data, "", number) for data in datasets for number in HEALTHY[part]]


class Study:
    """The verdicts of all runs, and the figures computed from them."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        shipped = {_cell(v.job): v.unexplained for v in verdicts if v.job.cause == "shipped"}
        self.reference = shipped
        self.worst = {
            data: max(u for cell, u in shipped.items() if cell[0] == data) for data in {cell[0] for cell in shipped}
        }
        self.faulty = [v for v in verdicts if v.job.cause in FAULTS and self._did_harm(v)]
        self.healthy = [v for v in verdicts if v.job.cause == "shipped" or (not v.job.cause and self._does_well(v))]
        self.drawn = sum(not v.job.cause for v in verdicts)

    def _did_harm(self, verdict: Verdict) -> bool:
        """Whether the fault did harm: for some rows, a bottleneck of one dimension is enough."""
        harm = verdict.unexplained > WORSE * self.reference[_cell(verdict.job)]
        return verdict.job.cause != "bottleneck-too-small" or harm

    def _does_well(self, verdict: Verdict) -> bool:
        return verdict.unexplained <= WORSE * self.worst[verdict.job.dataset] + POINTS

    def healed(self, verdict: Verdict) -> bool:
        """Whether the cause is gone, and the run is about as good as with the shipped settings."""
        if verdict.after is None or verdict.unexplained_after is None or verdict.job.cause in verdict.after:
            return False
        reference = self.reference[_cell(verdict.job)]
        if any(fault.keep for fault in FAULTS[verdict.job.cause]):  # with so few rows, no settings reach that
            reference = max(reference, verdict.unexplained)
        return verdict.unexplained_after <= WORSE * reference + POINTS

    def lines(self) -> Iterator[tuple[str, list[Verdict]]]:
        for cause in FAULTS:
            yield cause, [v for v in self.faulty if v.job.cause == cause]


def _cell(job: Job) -> tuple[str, str, int]:
    return job.dataset, job.size, job.seed


def _share(flags: Iterator[bool], of: int) -> float:
    return sum(flags) / max(1, of)


def confusion_table(study: Study, part: str) -> Table:
    """One line per cause: the runs, found, named first, healed, and the causes named instead."""
    table = Table("injected", "runs", "found", "named first", "healed", "named instead", title=f"{part} half")
    for cause, runs in study.lines():
        others = collections.Counter((v.causes or ["nothing"])[0] for v in runs if v.causes[:1] != [cause])
        counts = (sum(map(bool, (v.causes for v in runs))), sum(v.causes[:1] == [cause] for v in runs))
        healed = sum(map(study.healed, runs))
        table.add_row(
            cause, str(len(runs)), *map(str, (*counts, healed)), ", ".join(f"{n} {c}" for c, n in others.items())
        )
    alarms = collections.Counter(v.causes[0] for v in study.healthy if v.causes)
    text = ", ".join(f"{n} {c}" for c, n in alarms.items())
    table.add_row("(healthy)", str(len(study.healthy)), str(alarms.total()), "", "", text)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), default="report")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/.diagnosis"))
    options = parser.parse_args()
    study = Study(run_all(jobs_of(options.part), options.cache / options.part / _digest_of_the_code()))
    Console(width=140).print(confusion_table(study, options.part))
    faulty, count = study.faulty, len(study.faulty)
    found = _share((bool(v.causes) for v in faulty), count)
    named = _share((v.causes[:1] == [v.job.cause] for v in faulty), count)
    alarms = _share((bool(v.causes) for v in study.healthy), len(study.healthy))
    healed = _share(map(study.healed, faulty), count)
    rows = [
        row("faults found", "share", ours=found, bar=Bar("ours", ">=", 0.99)),
        row("right cause named first", "share", ours=named, bar=Bar("ours", ">=", 0.95)),
        row("false alarms on healthy runs", "share", ours=alarms, bar=Bar("ours", "<=", 0.005)),
        row("healed by the first advice", "share", ours=healed, bar=Bar("ours", ">=", 0.97)),
    ]
    note = f"{count} faulty runs of {len(FAULTS)} causes, {len(study.healthy)} healthy ones ({study.drawn} drawn)"
    report("diagnosis" if options.part == "report" else "diagnosis_tuning", rows, note)


if __name__ == "__main__":
    main()
