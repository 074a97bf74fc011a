"""The commands about what becomes of versions: retrain, prune, track."""

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.options import Device, StoreOption, out
from lookalike.index.errors import JobError
from lookalike.training.errors import ConfigError, LookalikeError

if TYPE_CHECKING:  # most commands load no training loop
    from lookalike.retraining.plan import RetrainOptions

__all__ = ["BUSY", "FAILED", "KEPT", "MISTAKEN", "prune", "retrain", "track"]

FAILED, MISTAKEN, KEPT, BUSY = 1, 2, 10, 75
"""Exit codes; 0 is promoted. 75 is EX_TEMPFAIL of sysexits.h: later it may go."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]


def retrain(
    store: StoreOption,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="F.toml", help="Settings of the training. [default: the champion's]"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Where the champion's rows are now. [default: where they were]"),
    ] = None,
    if_drifted: Annotated[bool, typer.Option("--if-drifted", help="Only where the queries have drifted.")] = False,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Promote what the gate refuses; the version says so.")] = False,
    keep: Annotated[
        int | None, typer.Option(metavar="N", help="Prune to so many versions once one is promoted. [default: all]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="At most so many. [default: half of the cores]")] = None,
    polite: Annotated[
        bool, typer.Option("--polite/--no-polite", help="Take only what other processes leave of the cores.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Train the champion's encoder anew on its data and all that was put and deleted since, and promote it if no worse.

    Exit code 0: promoted; 10: kept; 1: failed; 2: a mistake of yours; 75: another job works on the store. Why stands in
    STORE/retraining/report.json. Cut off, the same command goes on.
    """
    from lookalike.index.versions.store import Store
    from lookalike.retraining.plan import RetrainOptions
    from lookalike.retraining.run import is_mistake
    from lookalike.service.resources import cores
    from lookalike.training.scheduling import lower_priority

    asked = RetrainOptions(Store(store), config, data, if_drifted, force, keep, device)
    try:
        for name, number in (("--threads", threads), ("--keep", keep)):
            if number is not None and number < 1:
                raise ConfigError(name, expected="1 at least", found=str(number))
        if polite:
            with contextlib.suppress(OSError):  # where it is not allowed, as others are
                lower_priority()
        _bound_threads(threads or max(1, cores() // 2))
        code = _planned(asked) if dry_run else _retrained(asked)
    except LookalikeError as error:
        print(f"lookalike: {error}", file=sys.stderr)
        code = BUSY if isinstance(error, JobError) else MISTAKEN if is_mistake(error) else FAILED
    raise typer.Exit(code)


def prune(
    store: StoreOption,
    keep: Annotated[int, typer.Option(metavar="N", help="How many of the newest stay.")],
    dry_run: DryRun = False,
) -> None:
    """Remove versions beyond the N newest, but none that serves, is among the next N of rollback, or is its ancestor.

    Then drop the superseded changes of the change log and give their space back. Prints the removed versions' numbers.
    """
    from lookalike.index.changes.retention import prune as prune_versions
    from lookalike.index.versions.store import Store

    kept = Store(store)
    if dry_run:
        print(json.dumps(list(prune_versions(kept, keep, dry_run=True).removed)))
        return
    with kept.written(), kept.job("prune"):
        done = prune_versions(kept, keep)
    print(json.dumps(list(done.removed)))
    print(f"{len(done.removed):,} versions and {done.changes:,} changes of the log removed", file=sys.stderr)


def track(
    store: StoreOption,
    to: Annotated[str, typer.Option(metavar="URI", help="The MLflow to tell, as sqlite:///mlflow.db or https://...")],
    name: Annotated[
        str | None, typer.Option(help="Of the experiment and the registered model. [default: the store's folder's]")
    ] = None,
) -> None:
    """Tell an MLflow of the versions and of how they were trained; the aliases champion and challenger are the store's.

    Prints the numbers of those that were new to it. Needs the extra lookalike[tracking].
    """
    from lookalike.index.versions.store import Store
    from lookalike.tracking import track as track_versions

    print(json.dumps(track_versions(Store(store), to, name or store.resolve().name)))


def _bound_threads(count: int) -> None:
    """So many for torch and for FAISS."""
    import faiss
    import torch

    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)


def _retrained(asked: "RetrainOptions") -> int:
    from lookalike.retraining.run import retrain as run_retraining

    report = run_retraining(asked, lambda line: print(line, file=sys.stderr))
    out.print("\n".join(report.lines()))
    return 0 if report.outcome == "promoted" else KEPT


def _planned(asked: "RetrainOptions") -> int:
    from lookalike.cli.drift_command import drift_lines
    from lookalike.index.changes.log import ChangeLog
    from lookalike.index.drift.drift import drift_of
    from lookalike.retraining.plan import make_plan

    drift = drift_of(asked.store)
    out.print("\n".join(drift_lines(drift)))
    if asked.if_drifted and not drift.drifted:
        out.print("nothing to do")
        return KEPT
    plan = make_plan(asked, asked.store.open_champion(asked.device), ChangeLog(asked.store.folder).last())
    out.print("\n".join(plan.lines()))
    return 0
