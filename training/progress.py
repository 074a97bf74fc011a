"""The progress of long work, on standard error: a bar on a terminal, otherwise a line every ten seconds.

A line has the count, the rate over the last minute and the remaining time. The same lines can go to a log file.
"""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["PROGRESS_LOG", "progress_bar"]

PROGRESS_LOG = "progress.log"
"""The name of the log file in the folder of the work."""
EVERY = 10.0
"""Seconds from one line to the next."""
RECENT = 6
"""Lines over which the rate is averaged."""


def _rate(speed: float | None, unit: str) -> str:
    if not speed:
        return f"- {unit}/s"
    return f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.2g} {unit}/s"


class _RateColumn(TextColumn):
    """Units per second, averaged over the last seconds."""

    def __init__(self, unit: str) -> None:
        super().__init__("")
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(_rate(task.finished_speed or task.speed, self.unit))


class _Lines:
    """The progress as lines of text, to standard error if `shown`, and to the file `log` if there is one."""

    def __init__(self, label: str, total: float, unit: str, done: float, *, shown: bool, log: Path | None) -> None:
        self.label, self.total, self.unit, self.shown, self.log = label, total, unit, shown, log
        self.done, self.note = done, ""
        self.begun = (time.monotonic(), done)
        self.recent = deque([self.begun], maxlen=RECENT + 1)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._print_regularly, daemon=True)

    def __enter__(self) -> "_Lines":
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        if kind and self.done == self.begun[1]:
            return  # nothing was done: the error is all that there is to say
        seconds, rate = self._since(self.begun)
        self._print(f"{rate}, {timedelta(seconds=round(seconds))} in all")

    def _print_regularly(self) -> None:
        while not self.ended.wait(EVERY):
            _, rate = self._since(self.recent[0])
            speed = (self.done - self.recent[0][1]) / max(1e-9, time.monotonic() - self.recent[0][0])
            left = timedelta(seconds=round((self.total - self.done) / speed)) if speed > 0 else "unknown"
            self.recent.append((time.monotonic(), self.done))
            self._print(f"{rate}, {left} left")

    def _since(self, before: tuple[float, float]) -> tuple[float, str]:
        """Return the seconds since then, and the rate as text."""
        seconds = time.monotonic() - before[0]
        return seconds, _rate((self.done - before[1]) / max(1e-9, seconds), self.unit)

    def _print(self, times: str) -> None:
        count = f"{_plain(self.done)}/{_plain(self.total)} {self.unit}"
        line = ", ".join(filter(None, (f"{self.label}: {count}", times, self.note)))
        if self.shown:
            print(line, file=sys.stderr, flush=True)
        if self.log:
            with (
                contextlib.suppress(OSError),
                self.log.open("a", encoding="utf-8") as file,
            ):  # a full disk: work goes on
                file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}\n")


def _plain(count: float) -> str:
    return f"{count:,.0f}" if count == int(count) else f"{count:,.2f}"


@contextmanager
def progress_bar(
    label: str, total: int, unit: str, *, shown: bool = True, done: float = 0, log: Path | None = None
) -> Iterator[Callable[..., None]]:
    """Yield `advance(steps, note=None)`, which counts steps of the work; a step may be a fraction of a unit.

    Args:
        shown: show a bar if standard error is a terminal, otherwise print a line every ten seconds and at the end.
        done: units that were done before.
        log: a file to which the lines are appended, with the time, in each case.
    """
    console = Console(stderr=True, force_jupyter=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    as_lines = shown and not console.is_terminal
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, console=console, disable=not shown or as_lines))
        task = bar.add_task(label, total=total, completed=cast(int, done), note="")
        lines = _Lines(label, total, unit, done, shown=as_lines, log=log) if as_lines or log else None
        if lines:
            stack.enter_context(lines)

        def advance(steps: float, note: str | None = None) -> None:
            if lines:
                lines.done, lines.note = lines.done + steps, lines.note if note is None else note
            fields = {} if note is None else {"note": note}
            bar.update(task, advance=steps, **cast(Any, fields))

        yield advance
