"""A retraining: the champion's data and the change log, to a version that takes its place, or to a reason why not.

    plan      which rows, which settings, which rows neither encoder is trained on (lookalike.retraining.plan)
    train     into STORE/retraining/run
    judge     the gate, on the rows held out of both (index.evaluation.gate); what fails is not built
    build     to the champion's target, with the map from its embeddings
    promote   in the champion's place, if it still is the champion, and the index is its encoder's

If the process is killed, the next call continues the step that was interrupted, or repeats it, but no earlier step.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.target import Target
from lookalike.index.changes.log import ChangeLog
from lookalike.index.changes.retention import prune
from lookalike.index.drift.drift import drift_of
from lookalike.index.errors import LogError, StoreError
from lookalike.index.evaluation.gate import FEWEST_ROWS, judge
from lookalike.index.versions.alignment_report import write_alignment
from lookalike.index.versions.build import build
from lookalike.index.versions.consistency_check import check_consistency
from lookalike.index.versions.store import Store
from lookalike.index.versions.verdict import Verdict, read_verdict
from lookalike.retraining.job import (
    Job,
    Report,
    begin,
    end,
    manifest_or_empty,
    promoting,
    read_job,
    run_of,
    write_report,
)
from lookalike.retraining.plan import Plan, RetrainOptions, config_of, make_plan, plain
from lookalike.training.config import load_config
from lookalike.training.errors import ConfigError, DataError, LookalikeError
from lookalike.training.fit.job import TrainedRun, train
from lookalike.training.rows import evenly

__all__ = ["is_mistake", "retrain"]

FITTED = 20_000
"""Training rows that the gate's baselines and the map between the versions are fitted on."""


def retrain(asked: RetrainOptions, say: Callable[[str], None] = lambda line: None) -> tuple[Report, Verdict | None]:
    """Do it, alone in the store, and leave a report there.

    Args:
        say: is told a line at a time what is being done.

    Raises:
        JobError: another job works on the store; the report stays the last one's.
        LookalikeError, OSError: it failed, and the report says so. What a full disk or a missing file ended goes on
            when it is called again; what would fail again does not.
        KeyboardInterrupt: Ctrl-C; it goes on when it is called again.
    """
    store = asked.store
    with store.job("retrain"):
        try:
            report, verdict = _retrain(asked, say)
        except Exception as error:
            with contextlib.suppress(OSError):  # the disk that is full, say
                write_report(store, Report("failed", f"{type(error).__name__}: {error}", _champion(store)))
                if _fails_again(error):
                    end(store)
            raise
        if verdict or report.data:  # nothing was asked of the data where the queries have not drifted
            write_report(store, report)
            end(store)
        if report.outcome == "promoted" and asked.keep is not None:
            report = _pruned(store, asked.keep, report, say)
        return report, verdict


def _pruned(store: Store, keep: int, report: Report, say: Callable[[str], None]) -> Report:
    """The report with what was removed; what fails here is told, and undoes no promotion."""
    try:
        report = replace(report, removed=prune(store, keep).removed)
        write_report(store, report)
    except (LookalikeError, OSError) as error:
        say(f"promoted, but not pruned: {error}")
    return report


def _retrain(asked: RetrainOptions, say: Callable[[str], None]) -> tuple[Report, Verdict | None]:
    store = asked.store
    drift = drift_of(store)
    told = {"drifted": drift.drifted, "queries": drift.queries}
    before = read_job(store)
    made = before.made(store) if before and _wants(asked, before) else None
    if before and made is not None:
        return _settled(asked, made, before, told)
    if asked.if_drifted and not (drift.drifted or before):
        return Report("kept", "the queries have not drifted", drift.version, drift=told), None
    champion = store.open_champion(asked.device)
    config = plain(config_of(asked.config, champion)[0])
    job = Job(champion.encoder.digest, champion.manifest["data"]["sha256"], config, _last(store))
    if before and job.is_like(before):
        job = before
        say(f"going on with the retraining that was cut off, of the changes up to {job.sequence:,}")
    plan = make_plan(asked, champion, job.sequence)
    for line in plan.lines():
        say(line)
    report = Report("kept", "", champion.number, data=plan.told(), drift=told)
    if len(plan.held) < FEWEST_ROWS and not asked.force:
        found = f"{len(plan.held)} rows that the champion was not trained on are too few to tell: {FEWEST_ROWS} are"
        return replace(report, reason=f"{found} needed"), None
    if job is not before:
        begin(store, job)
    run = _trained(plan, run_of(store))
    verdict = _judged(plan, run)
    report = replace(report, gate=verdict.to_json())
    if not verdict.passes and not asked.force:
        return replace(report, reason=verdict.reason), verdict
    number = build(
        plan.collection.rows,
        run.folder,
        store,
        metric=champion.metric,
        target=Target(**champion.manifest["tuning"]["target"]),
        device=asked.device,
        beside=partial(_beside, plan, run, {"verdict": verdict, "job": job}),
    )
    return _settled(asked, number, replace(job, alias=None), told)


def _trained(plan: Plan, run: Path) -> TrainedRun:
    held = plan.held if len(plan.held) else None
    done = train(
        plan.collection.rows, plan.config, run, resume=run.exists(), held=held, without=plan.collection.outside
    )
    if done.state.stopped == "interrupted":
        raise KeyboardInterrupt
    return done


def _judged(plan: Plan, run: TrainedRun) -> Verdict:
    split, some = run.split, evenly(len(run.split.train), FITTED)
    none = 0 if not len(plan.held) else None  # what was then held out by chance, the champion may know
    return judge(
        run.encoder,
        plan.champion.encoder,
        held=split.validation[:none],
        labels=split.validation_labels[:none],
        metric=plan.champion.metric,
        fit_on=split.train[some],
    )


def _beside(plan: Plan, run: TrainedRun, of: dict[str, Any], folder: Path, embeddings: Embeddings) -> dict[str, Any]:
    """What the new version's manifest says beside what every build says; the map goes into its folder."""
    champion, split, verdict, job = plan.champion, run.split, of["verdict"], of["job"]
    some = evenly(len(split.train), FITTED)
    alignment = write_alignment(
        folder, embeddings, run.encoder, champion, rows=split.train[some], held=split.validation
    )
    return {
        "data": champion.manifest["data"],
        "sequence": plan.collection.sequence,
        "trained_to": plan.collection.sequence,
        "parent": champion.number,
        "compacted": False,
        "gate": verdict.to_json(),
        "forced": not verdict.passes,
        "alignment": alignment,
        "retrained": {"job": job.token, **plan.told()},
    }


def _settled(asked: RetrainOptions, number: int, job: Job, drift: dict[str, Any]) -> tuple[Report, Verdict]:
    """A version that was built is asked whether its index is its encoder's, and promoted."""
    store, header = asked.store, asked.store.manifest(number)
    parent, gate, verdict = header["parent"], header["gate"], read_verdict(header["gate"])
    data = {name: told for name, told in header["retrained"].items() if name != "job"}
    report = Report(
        "kept", verdict.reason, parent, number, header["forced"], data, drift, gate, header["alignment"]
    )  # fmt: skip
    promoted = replace(report, outcome="promoted")
    if _was_promoted(store, number):  # the process was killed before it could say so
        return promoted, verdict
    if job.alias not in (None, list(store.alias_stamp())):  # promoted, and rolled back before it could say so
        found = f"the champion was changed since version {number} was promoted, or was about to be"
        return replace(report, reason=f"{found}; it is there, and does not serve", champion=_champion(store)), verdict
    if header["forced"] and not asked.force:
        return replace(report, forced=False), verdict
    if not check_consistency(store.open(number, asked.device)).holds:
        return replace(report, reason=f"the index of version {number} is not its encoder's"), verdict
    promoting(store, job)
    try:
        store.promote(number, instead_of=parent)
    except StoreError:
        if store.champion_number() == parent:
            raise
        found = f"version {store.champion_number()} was promoted meanwhile; version {number} is there, and does not"
        return replace(report, reason=f"{found} serve", champion=store.champion_number()), verdict
    return promoted, verdict


def _was_promoted(store: Store, number: int) -> bool:
    """Is it, or what it was compacted to, the champion, or was it replaced by that?"""
    job = store.manifest(number)["retrained"]["job"]
    return any(manifest_or_empty(store, one).get("retrained", {}).get("job") == job for one in _chain(store))


def _chain(store: Store) -> tuple[int, ...]:
    """The champion, and those that it took the place of."""
    alias = store.champion()
    return (*alias.replaced, alias.version) if alias else ()


def _wants(asked: RetrainOptions, job: Job) -> bool:
    """Are these the settings of a job that was cut off, or none?"""
    return asked.config is None or plain(load_config(asked.config)) == job.config


def _last(store: Store) -> int:
    with contextlib.closing(ChangeLog(store.folder)) as log:
        return log.last()


def _champion(store: Store) -> int | None:
    try:
        return next(reversed(_chain(store)), None)
    except LookalikeError:
        return None


def is_mistake(error: Exception) -> bool:
    """Of the user, who can mend it; a store that the system does not let be written is none."""
    refused = isinstance(error, StoreError) and isinstance(error.__cause__, OSError)
    return isinstance(error, ConfigError | DataError | StoreError) and not refused


def _fails_again(error: Exception) -> bool:
    """Would it, gone on with as it is? A mistake can be mended, and room made."""
    mendable = is_mistake(error) or isinstance(error, LogError) or isinstance(error.__cause__, OSError)
    return isinstance(error, LookalikeError) and not mendable
