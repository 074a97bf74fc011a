"""The commands that replace, remove and track versions: retrain, prune, track."""

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.options import Device, StoreOption, open_store, out, with_options
from lookalike.index.errors import JobError
from lookalike.training.errors import ConfigError, LookalikeError

if TYPE_CHECKING:  # most commands load no training loop
    from lookalike.retraining.plan import RetrainOptions

__all__ = ["BUSY", "FAILED", "KEPT", "USER_ERROR", "prune", "retrain", "track"]

FAILED, USER_ERROR, KEPT, BUSY = 1, 2, 10, 75
"""Exit codes; 0 means promoted. 75 is EX_TEMPFAIL of sysexits.h: a later attempt may succeed."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and change nothing.")]


@dataclass(frozen=True)
class RetrainFlags:
    """The options of `lookalike retrain`."""

    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="F.toml", help="The settings of the training. [default: the champion's]"),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="The champion's rows, if they have moved. [default: as in its build]"
        ),
    ] = None
    if_drifted: Annotated[bool, typer.Option("--if-drifted", help="Retrain only if the queries have drifted.")] = False
    dry_run: DryRun = False
    force: Annotated[
        bool,
        typer.Option("--force", help="Promote the new version even if the gate refuses it; the version records it."),
    ] = False
    keep: Annotated[
        int | None, typer.Option(metavar="N", help="After a promotion, prune to the N newest versions. [default: all]")
    ] = None
    threads: Annotated[int | None, typer.Option(help="The maximum number of threads. [default: half of the cores]")] = (
        None
    )
    polite: Annotated[
        bool, typer.Option("--polite/--no-polite", help="Run at low priority, so that other processes come first.")
    ] = True
    device: Device = "auto"


@with_options(RetrainFlags)
def retrain(store: StoreOption, options: RetrainFlags) -> None:
    """Train a new encoder, and promote it if it is no worse.

    Trains on the current items, and compares the new version with the champion. STORE/retraining/report.json contains
    the outcome and its reasons. Exit code 0: promoted; 10: the champion was kept; 1: failed; 2: a user error; 75:
    another job is running on the store. If the command is interrupted, run it again: it continues where it stopped.
    """
    import faiss
    import torch

    from lookalike.retraining.plan import RetrainOptions
    from lookalike.retraining.run import is_user_error
    from lookalike.service.resources import cores
    from lookalike.training.scheduling import lower_priority

    wanted = RetrainOptions(
        *(open_store(store), options.config, options.data, options.if_drifted, options.force),
        *(options.keep, options.device),
    )
    try:
        for name, number in (("--threads", options.threads), ("--keep", options.keep)):
            if number is not None and number < 1:
                raise ConfigError(name, expected="at least 1", found=str(number))
        if options.polite:
            with contextlib.suppress(OSError):  # not permitted: keep the normal priority
                lower_priority()
        torch.set_num_threads(options.threads or max(1, cores() // 2))
        faiss.omp_set_num_threads(torch.get_num_threads())
        code = _print_plan(wanted) if options.dry_run else _retrain(wanted)
    except LookalikeError as error:
        print(f"lookalike: {error}", file=sys.stderr)
        code = BUSY if isinstance(error, JobError) else USER_ERROR if is_user_error(error) else FAILED
    raise typer.Exit(code)


def prune(
    store: StoreOption,
    keep: Annotated[int, typer.Option(metavar="N", help="How many of the newest versions to keep.")],
    dry_run: DryRun = False,
) -> None:
    """Remove all but the N newest versions.

    Also keeps the champion, its N nearest ancestors, and the N versions that rollback would reach next. Afterwards, the
    command deletes superseded changes from the change log and frees their space. Prints the numbers of the removed
    versions.
    """
    from lookalike.index.changes.retention import prune as prune_versions

    opened = open_store(store)
    if dry_run:
        print(json.dumps(list(prune_versions(opened, keep, dry_run=True).removed)))
        return
    with opened.written(), opened.job("prune"):
        done = prune_versions(opened, keep)
    print(json.dumps(list(done.removed)))
    print(f"removed {len(done.removed):,} versions and {done.changes:,} changes of the change log", file=sys.stderr)


def track(
    store: StoreOption,
    to: Annotated[
        str, typer.Option(metavar="URI", help="The MLflow server or database, as sqlite:///mlflow.db or https://...")
    ],
    name: Annotated[
        str | None,
        typer.Option(help="The experiment's and registered model's name. [default: the name of the store's folder]"),
    ] = None,
) -> None:
    """Register the versions in MLflow.

    Each version is registered with its training; the aliases champion and challenger are set as in the store. Prints
    the numbers of the versions that were added. Needs the extra lookalike[tracking].
    """
    from lookalike.tracking import track as track_versions

    print(json.dumps(track_versions(open_store(store), to, name or store.resolve().name)))


def _retrain(options: "RetrainOptions") -> int:
    from lookalike.retraining.run import retrain as run_retraining

    report = run_retraining(options, lambda line: print(line, file=sys.stderr))
    out.print("\n".join(report.lines()))
    return 0 if report.outcome == "promoted" else KEPT


def _print_plan(options: "RetrainOptions") -> int:
    from lookalike.cli.drift_command import drift_lines
    from lookalike.index.changes.log import ChangeLog
    from lookalike.index.drift.drift import drift_of
    from lookalike.retraining.plan import make_plan

    drift = drift_of(options.store)
    out.print("\n".join(drift_lines(drift)))
    if options.if_drifted and not drift.drifted:
        out.print("nothing to do")
        return KEPT
    champion = options.store.open_champion(options.device)
    out.print("\n".join(make_plan(options, champion, ChangeLog(options.store.folder).last()).lines()))
    return 0
