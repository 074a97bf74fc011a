"""One training run from rows to encoder artifact: read, split, scale, fit, export.

RUN/checkpoint-NNNNNN/   where the run stands (training.fit.checkpoint)
RUN/encoder/             what it made (training.artifact.encoder)
"""

import contextlib
import errno
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import TrainConfig
from lookalike.training.errors import TrainingError
from lookalike.training.fit.checkpoint import latest_checkpoint, restore, save_checkpoint
from lookalike.training.fit.fitting import Fitting, epoch_bar, prepare
from lookalike.training.fit.split import Split, split_rows
from lookalike.training.history import State
from lookalike.training.plan import Hooks
from lookalike.training.rows import Rows
from lookalike.training.sealed import Sealed, locked

__all__ = ["TrainedRun", "train"]

CHECKPOINT_SECONDS = 5.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class TrainedRun:
    """What a run left: its encoder, its history, and the rows as it parted them."""

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
    held: NDArray[np.int64] | None = None,
    without: NDArray[np.int64] | None = None,
) -> TrainedRun:
    """Train on `rows` and leave checkpoints and the encoder in the folder `run`.

    Ctrl-C ends the run after the epoch in hand, with a checkpoint and a usable encoder.

    Args:
        held, without: as for `split_rows`.

    Raises:
        DataError, ConfigError: before anything is trained.
        TrainingError: `run` holds a run and `resume` is not asked for, or holds something else, or another process
            trains there; the loss left the numbers.
        ArtifactError: `run` holds checkpoints, and none is whole.
        ResumeError: it was begun with other settings or other rows.
        ExportError: the exported encoder does not answer as the live model does.
    """
    checkpoint = _checkpoint(run, resume=resume)
    if resume and not checkpoint:
        print(f"{run} has no checkpoint: a new run begins", file=sys.stderr)
    rows = rows.with_categories(config.data.categories)
    split = split_rows(rows, config, held=held, without=without)
    fitting = prepare(rows, split, config, begun=checkpoint.header["settings"] if checkpoint else None)
    settings = fitting.settings(rows, split, config)
    state = restore(checkpoint, fitting.model, fitting.optimizer, settings) if checkpoint else State()
    run.mkdir(parents=True, exist_ok=True)
    with _alone(run, checkpoint):
        with _fit_hooks(fitting, state, lambda: _save(run, fitting, state, settings)) as hooks:
            fitting.run(state, hooks)
        with _told_of_a_full_disk(run, "the encoder"):
            encoder = fitting.fitted(rows, split, settings, state).export(run / "encoder")
    return TrainedRun(run, encoder, state, split)


def _checkpoint(run: Path, *, resume: bool) -> Sealed | None:
    """Where to go on from; None in a new folder. What is in another one is not ours to replace."""
    checkpoint = latest_checkpoint(run)
    if checkpoint and resume:
        return checkpoint
    others = [path.name for path in run.iterdir() if not path.name.startswith(".")] if run.is_dir() else []
    if checkpoint or others:
        raise TrainingError(
            str(run),
            expected="a new folder",
            found="an earlier run" if checkpoint or "encoder" in others else f"one that holds {others[0]}",
            remedy="Choose another --run" + (", or go on with --resume." if checkpoint else "."),
        )
    return None


@contextlib.contextmanager
def _alone(run: Path, checkpoint: Sealed | None) -> Iterator[None]:
    """One process at a time trains in a folder."""
    lock = run / ".lock"
    lock.touch()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(lock, wait=False))
        except BlockingIOError:
            raise _shared(run) from None
        now = latest_checkpoint(run)
        if (now and now.digest) != (checkpoint and checkpoint.digest):
            raise _shared(run)
        yield


def _shared(run: Path) -> TrainingError:
    return TrainingError(
        str(run), expected="a folder of its own", found="another process that trains there", remedy="Choose another."
    )


def _save(run: Path, fitting: Fitting, state: State, settings: dict[str, Any]) -> None:
    with _told_of_a_full_disk(run, f"the checkpoint of epoch {len(state.history)}"):
        save_checkpoint(run, state, fitting.model, fitting.optimizer, settings)


@contextlib.contextmanager
def _told_of_a_full_disk(run: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise TrainingError(
            str(run),
            expected=f"room for {what}",
            found=error.strerror or str(error),
            remedy="Make room, then go on from the last checkpoint with --resume.",
        ) from error


@contextlib.contextmanager
def _fit_hooks(fitting: Fitting, state: State, save: Callable[[], None]) -> Iterator[Hooks]:
    """A progress bar, a checkpoint every few seconds and at the end, and Ctrl-C as a polite stop."""
    interrupted: list[int] = []
    saved = time.monotonic()

    def on_signal(number: int, frame: Any) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(number)

    def on_epoch(state: State) -> None:
        nonlocal saved
        show(state)
        if state.stopped or time.monotonic() - saved > CHECKPOINT_SECONDS:
            save()
            saved = time.monotonic()

    before = signal.getsignal(signal.SIGINT)
    with epoch_bar(fitting.plan.epochs, state) as show:
        with contextlib.suppress(ValueError):  # only the main thread may listen for signals
            signal.signal(signal.SIGINT, on_signal)
        try:
            yield Hooks(on_epoch=on_epoch, should_stop=lambda: bool(interrupted))
        finally:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, before)
