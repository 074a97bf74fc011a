"""A progress bar with a rate and a remaining time, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["progress_bar"]


class _RateColumn(TextColumn):
    """Units per second, averaged over the last seconds."""

    def __init__(self, unit: str) -> None:
        super().__init__("")
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text(f"- {self.unit}/s")
        return Text(f"{speed:,.0f} {self.unit}/s" if speed >= 10 else f"{speed:.2g} {self.unit}/s")


@contextmanager
def progress_bar(label: str, total: int, unit: str, *, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Yield `advance(steps, note=None)`; if standard error is not a terminal, print one line at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True, force_jupyter=False), disable=not shown) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(steps: int, note: str | None = None) -> None:
            fields = {} if note is None else {"note": note}
            bar.update(task, advance=steps, **cast(Any, fields))

        yield advance
