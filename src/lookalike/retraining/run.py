"""A retraining: from the champion's data and the change log to a new champion, or to a reason why there is none.

    plan      which rows, which settings, which rows neither encoder is trained on (lookalike.retraining.plan)
    train     into STORE/retraining/run
    judge     with the gate, on the held-out rows (index.evaluation.gate); a refused encoder is not built
    build     to the champion's target, with the map from its embeddings
    promote   if the champion is still the same, and the index is consistent with its encoder

If the process is killed, the next call continues the interrupted step, or repeats it, but no earlier step.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lookalike.index.ann.target import Target
from lookalike.index.changes.log import ChangeLog
from lookalike.index.changes.retention import prune
from lookalike.index.changes.training_snapshot import with_previews
from lookalike.index.drift.drift import drift_of
from lookalike.index.errors import LogError, StoreError
from lookalike.index.evaluation.gate import FEWEST_ROWS, judge
from lookalike.index.versions.build import BuildExtras, RetrainingParts, build
from lookalike.index.versions.consistency_check import check_consistency
from lookalike.index.versions.store import Store
from lookalike.index.versions.verdict import Verdict
from lookalike.retraining.job import Job, begin, end, job_of, note_promotion, read_job, run_of
from lookalike.retraining.plan import Plan, RetrainOptions, config_of, make_plan, plain
from lookalike.retraining.report import Report, write_report
from lookalike.training.array_types import Floats
from lookalike.training.config import load_config
from lookalike.training.errors import ConfigError, DataError, LookalikeError
from lookalike.training.fit.job import TrainedRun, train
from lookalike.training.rows import evenly

__all__ = ["is_user_error", "retrain"]

FITTED = 20_000
"""Training rows that the gate's baselines and the map between the versions are fitted on."""

Progress = Callable[[str], None]


def retrain(options: RetrainOptions, progress: Progress = lambda line: None) -> Report:
    """Retrain while no other job works on the store, and write the report.

    `progress` is called with a line of text for each step.

    Raises:
        JobError: another job works on the store; the report stays that of the last retraining.
        LookalikeError, OSError: the retraining failed, as the report says. After a full disk or a missing file the next
            call continues; after an error that would occur again it begins a new job.
        KeyboardInterrupt: Ctrl-C; the next call continues.
    """
    store = options.store
    with store.job("retrain"):
        try:
            report = _retrain(options, progress)
        except Exception as error:
            with contextlib.suppress(OSError):  # for example on a full disk
                write_report(store, Report("failed", f"{type(error).__name__}: {error}", _champion(store)))
                if _fails_again(error):
                    end(store)
            raise
        if report.gate or report.data:  # not if the queries have not drifted: then no data was read
            write_report(store, report)
            end(store)
        if report.outcome == "promoted" and options.keep is not None:
            report = _pruned(store, options.keep, report, progress)
        return report


def _pruned(store: Store, keep: int, report: Report, progress: Progress) -> Report:
    """Prune, and add the removed versions to the report; an error here is reported and undoes no promotion."""
    try:
        report = replace(report, removed=prune(store, keep).removed)
        write_report(store, report)
    except (LookalikeError, OSError) as error:
        progress(f"promoted, but not pruned: {error}")
    return report


def _retrain(options: RetrainOptions, progress: Progress) -> Report:
    store = options.store
    drift = drift_of(store)
    drift_fields: dict[str, Any] = {"drifted": drift.drifted, "queries": drift.queries}
    interrupted = read_job(store)
    built = interrupted.built_version(store) if interrupted and _has_settings(options, interrupted) else None
    if interrupted and built is not None:
        return _promoted(options, built, interrupted, drift_fields)
    if options.if_drifted and not (drift.drifted or interrupted):
        return Report("kept", "the queries have not drifted", drift.version, drift=drift_fields)
    champion = store.open_champion(options.device)
    _ = champion.autoencoder  # raises an error if `lookalike train` did not make it
    config = plain(config_of(options.config, champion)[0])
    with contextlib.closing(ChangeLog(store.folder)) as log:
        job = Job(champion.encoder.digest, champion.manifest.data.sha256, config, log.last())
    if interrupted and job.is_like(interrupted):
        job = interrupted
        progress(f"continuing the interrupted retraining of the changes up to {job.sequence:,}")
    plan = make_plan(options, champion, job.sequence)
    for line in plan.lines():
        progress(line)
    report = Report("kept", "", champion.number, data=plan.summary, drift=drift_fields)
    if len(plan.held) < FEWEST_ROWS and not options.force:
        found = f"{len(plan.held)} rows that the champion was not trained on are too few to judge"
        return replace(report, reason=f"{found}: {FEWEST_ROWS} are needed")
    if job is not interrupted:
        begin(store, job)
    run = _train(plan, run_of(store))
    split, fit_on = run.split, run.split.train[evenly(len(run.split.train), FITTED)]
    verdict = _judge(plan, run, fit_on)
    if not verdict.passes and not options.force:
        return replace(report, gate=verdict, reason=verdict.reason)
    sequence = plan.collection.sequence
    parts = RetrainingParts(champion, job.token, verdict, plan.summary, sequence, fit_on, held=split.validation)
    number = build(
        with_previews(plan.collection.rows, champion),
        run.folder,
        store,
        metric=champion.metric,
        target=Target(**champion.manifest.tuning.target.model_dump()),
        device=options.device,
        extras=BuildExtras(inputs=champion.inputs is not None, retraining=parts),
    )
    return _promoted(options, number, replace(job, alias=None), drift_fields)


def _train(plan: Plan, folder: Path) -> TrainedRun:
    rows, held = plan.collection, plan.held if len(plan.held) else None
    run = train(rows.rows, plan.config, folder, resume=folder.exists(), held=held, without=rows.outside)
    if run.state.stopped == "interrupted":
        raise KeyboardInterrupt
    return run


def _judge(plan: Plan, run: TrainedRun, fit_on: Floats) -> Verdict:
    none = 0 if not len(plan.held) else None  # without rows unknown to the champion the gate judges none, and refuses
    return judge(
        run.encoder,
        plan.champion.autoencoder,
        held=run.split.validation[:none],
        labels=run.split.validation_labels[:none],
        metric=plan.champion.metric,
        fit_on=fit_on,
    )


def _promoted(options: RetrainOptions, number: int, job: Job, drift: dict[str, Any]) -> Report:
    """Check that the index of a built version is consistent with its encoder, and promote the version."""
    store, manifest = options.store, options.store.manifest(number)
    parent, retraining = manifest.parent, manifest.retraining
    if retraining is None or retraining.gate is None:
        raise StoreError(f"version {number}", expected="a version that a retraining built", found="another version")
    verdict, forced = retraining.gate, retraining.forced
    report = Report(
        "kept", verdict.reason, parent, number, forced, retraining.rows, drift, verdict, retraining.alignment
    )  # fmt: skip
    promoted = replace(report, outcome="promoted")
    if _was_promoted(store, number):  # the process was killed before it could write the report
        return promoted
    if job.alias not in (None, list(store.alias_stamp())):  # promoted, and rolled back before the report was written
        reason = f"the champion was changed after version {number} was promoted or prepared; version {number} exists "
        return replace(report, reason=f"{reason}and does not serve", champion=_champion(store))
    if forced and not options.force:
        return replace(report, forced=False)
    if not check_consistency(store.open(number, options.device)).holds:
        return replace(report, reason=f"the index of version {number} is not consistent with its encoder")
    note_promotion(store, job)
    try:
        store.promote(number, instead_of=parent)
    except StoreError:
        champion = store.champion_number()
        if champion == parent:
            raise
        reason = f"version {champion} was promoted in the meantime; version {number} exists and does not serve"
        return replace(report, reason=reason, champion=champion)
    return promoted


def _was_promoted(store: Store, number: int) -> bool:
    """Whether the version, or a compaction of it, is the champion or was replaced by it."""
    job = job_of(store, number)
    return any(job_of(store, served) == job for served in store.served())


def _has_settings(options: RetrainOptions, job: Job) -> bool:
    """Whether these options name the settings of an interrupted job, or none."""
    return options.config is None or plain(load_config(options.config)) == job.config


def _champion(store: Store) -> int | None:
    try:
        return next(reversed(store.served()), None)
    except LookalikeError:
        return None


def is_user_error(error: Exception) -> bool:
    """Whether the user can correct it. A store that the system refuses to write is no mistake."""
    refused = isinstance(error, StoreError) and isinstance(error.__cause__, OSError)
    return isinstance(error, ConfigError | DataError | StoreError) and not refused


def _fails_again(error: Exception) -> bool:
    """Whether the job would fail again if it were continued. Mistakes can be corrected, and a disk can get space."""
    correctable = is_user_error(error) or isinstance(error, LogError) or isinstance(error.__cause__, OSError)
    return isinstance(error, LookalikeError) and not correctable
