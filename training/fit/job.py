"""One training run from rows to encoder artifact: read, split, scale, fit, export.

RUN/checkpoint-NNNNNN/   the state of the run (training.fit.checkpoint)
RUN/encoder/             the trained encoder (training.artifact.encoder)
RUN/progress.log         a line every ten seconds (training.progress)
"""

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.training.array_types import Integers
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import TrainConfig
from lookalike.training.errors import TrainingError
from lookalike.training.fit.checkpoint import latest_checkpoint, restore, save_checkpoint
from lookalike.training.fit.fitting import Fitting, epoch_bar, prepare
from lookalike.training.fit.split import Split, split_rows
from lookalike.training.history import State
from lookalike.training.plan import Hooks
from lookalike.training.progress import PROGRESS_LOG
from lookalike.training.rows import Rows
from lookalike.training.rows.unique_ids import check_unique_ids
from lookalike.training.sealed import Sealed, locked

__all__ = ["TrainedRun", "train"]

CHECKPOINT_SECONDS = 5.0
"""After an epoch, a checkpoint is written if the last checkpoint is older than this."""
LONG_EPOCH_SECONDS = 60.0
"""Within an epoch likewise."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class TrainedRun:
    """The result of a run: its folder, its encoder, its history, and how it split the rows."""

    folder: Path
    encoder: Encoder
    state: State
    split: Split


def train(
    rows: Rows,
    config: TrainConfig,
    run: Path,
    *,
    resume: bool = False,
    held: Integers | None = None,
    without: Integers | None = None,
) -> TrainedRun:
    """Train on `rows` and write checkpoints and the encoder to the folder `run`; `held`, `without`: see `split_rows`.

    Ctrl-C or SIGTERM ends the run after the current epoch, with a checkpoint and a usable encoder; a second one ends
    it at once. If an epoch takes longer than a minute, checkpoints are written within it.

    Raises:
        DataError, ConfigError: before anything is trained.
        TrainingError: `run` contains a run and `resume` is false, or contains other files, or another process
            trains in it; or the loss became NaN or infinite.
        ArtifactError: `run` contains checkpoints, and all are damaged.
        ResumeError: the run began with other settings or other rows.
        ExportError: the exported encoder's output differs from the live model's.
    """
    checkpoint = _checkpoint(run, resume=resume)
    if resume and not checkpoint:
        print(f"{run} has no checkpoint: a new run begins", file=sys.stderr)
    rows = rows.with_settings(config.data)
    check_unique_ids(rows)
    split = split_rows(rows, config, held=held, without=without)
    fitting = prepare(rows, split, config, resumed=checkpoint.header["settings"] if checkpoint else None)
    settings = fitting.settings(rows, split, config)
    state = restore(checkpoint, fitting.model, fitting.optimizer, settings) if checkpoint else State()
    run.mkdir(parents=True, exist_ok=True)
    with _exclusive(run, checkpoint):
        with _fit_hooks(fitting, state, lambda: _save(run, fitting, state, settings), run / PROGRESS_LOG) as hooks:
            fitting.run(state, hooks)
        with _explain_full_disk(run, "the encoder"):
            encoder = fitting.fitted(rows, split, settings, state).export(run / "encoder")
    return TrainedRun(run, encoder, state, split)


def _checkpoint(run: Path, *, resume: bool) -> Sealed | None:
    """Return the checkpoint to resume from, or None for a new folder; refuse a folder with other contents."""
    checkpoint = latest_checkpoint(run)
    if checkpoint and resume:
        return checkpoint
    others = [path.name for path in run.iterdir() if not _is_ours(path.name)] if run.is_dir() else []
    if checkpoint or others:
        found = "an earlier run" if checkpoint or "encoder" in others else f"a folder that contains {others[0]}"
        remedy = "Choose another --run" + (", or continue with --resume." if checkpoint else ".")
        raise TrainingError(str(run), expected="a new folder", found=found, remedy=remedy)
    return None


def _is_ours(name: str) -> bool:
    """Whether a file of this name can be left by a run that ended before its first checkpoint."""
    return name.startswith(".") or name == PROGRESS_LOG


@contextlib.contextmanager
def _exclusive(run: Path, checkpoint: Sealed | None) -> Iterator[None]:
    """Lock the folder: one process at a time trains in it."""
    lock = run / ".lock"
    lock.touch()
    found, remedy = "another process that trains in it", "Choose another --run."
    shared = TrainingError(str(run), expected="a folder that no other process uses", found=found, remedy=remedy)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(lock, wait=False))
        except BlockingIOError:
            raise shared from None
        now = latest_checkpoint(run)
        if (now and now.digest) != (checkpoint and checkpoint.digest):
            raise shared
        yield


def _save(run: Path, fitting: Fitting, state: State, settings: dict[str, Any]) -> None:
    with _explain_full_disk(run, f"the checkpoint of epoch {len(state.history)}"):
        save_checkpoint(run, state, fitting.model, fitting.optimizer, settings)


@contextlib.contextmanager
def _explain_full_disk(run: Path, what: str) -> Iterator[None]:
    """Turn the OSError of a full disk into a TrainingError with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        found = error.strerror or str(error)
        remedy = "Free some space, then continue from the last checkpoint with --resume."
        raise TrainingError(str(run), expected=f"room for {what}", found=found, remedy=remedy) from error


@contextlib.contextmanager
def _fit_hooks(fitting: Fitting, state: State, save: Callable[[], None], log: Path) -> Iterator[Hooks]:
    """Show progress, save a checkpoint when one is due and at the end, and stop after an epoch on Ctrl-C or SIGTERM."""
    saved = time.monotonic()

    def on_epoch(state: State) -> None:
        show.on_epoch(state)
        if state.stopped or time.monotonic() - saved > CHECKPOINT_SECONDS:
            on_save(state)

    def on_save(state: State) -> None:
        nonlocal saved
        save()
        saved = time.monotonic()

    with epoch_bar(fitting.plan.epochs, state, log=log) as show, _interruption() as interrupted:
        yield Hooks(
            on_step=show.on_step,
            on_epoch=on_epoch,
            should_stop=lambda: bool(interrupted),
            should_save=lambda: time.monotonic() - saved > LONG_EPOCH_SECONDS,
            on_save=on_save,
        )


@contextlib.contextmanager
def _interruption() -> Iterator[list[int]]:
    """Yield a list that receives the first Ctrl-C or SIGTERM; the second one raises KeyboardInterrupt."""
    received: list[int] = []

    def on_signal(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        line = f"\n{signal.Signals(number).name}: the run ends after this epoch; send it again to end at once\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode())  # not print: the signal may have interrupted a print

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.suppress(ValueError):  # only the main thread can handle signals
        for number in before:
            signal.signal(number, on_signal)
    try:
        yield received
    finally:
        with contextlib.suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler)
