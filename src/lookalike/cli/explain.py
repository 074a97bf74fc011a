"""Print a lesson's experiment or a learning-rate range test: its numbers, its picture, and the picture's file."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lookalike.training.errors import DataError

if TYPE_CHECKING:  # lessons load torch and draw; the other commands need neither
    from lookalike.lessons.catalogue import Lesson
    from lookalike.lessons.picture import Picture
    from lookalike.training.config import TrainConfig

__all__ = ["show_lesson", "show_rates"]


def show_lesson(lesson: "Lesson", target: Path, out: Console) -> None:
    """Run the experiment of a lesson, print its numbers, and write its picture to `target`."""
    from lookalike.lessons.shown import number_lines

    _check_target(target)
    shown = lesson.show()
    out.print("\n".join(number_lines(shown.numbers)))
    _draw(shown.picture, target, out)


def show_rates(data: str, config: "TrainConfig", target: Path, out: Console) -> None:
    """Run a learning-rate range test on `data`; print the suggested rate as a `--set` option, and draw the curve."""
    from lookalike.data import open_data
    from lookalike.lessons.picture import Curves
    from lookalike.training.doctor.causes import refuse
    from lookalike.training.doctor.facts import collect_facts
    from lookalike.training.fit.fitting import prepare
    from lookalike.training.fit.rate_test import rate_test
    from lookalike.training.fit.split import split_rows
    from lookalike.training.history import State

    _check_target(target)
    rows = open_data(data, config.data)
    fitting = prepare(rows, split_rows(rows, config), config)
    refuse(State(facts=collect_facts(fitting.model, fitting.loss, fitting.optimizer, fitting.data, fitting.plan)))
    tested = rate_test(fitting.model, fitting.loss, fitting.optimizer, fitting.data, plan=fitting.plan)
    curve = {"loss": (tested.rates, tested.losses)}
    marks = {"suggested": tested.suggested}
    picture = Curves("Learning-rate range test", "learning rate", "loss", curve, log_x=True, marks=marks)
    out.print(f"--set optimizer.lr={tested.suggested:.2g}")
    _draw(picture, target, out)


def _check_target(target: Path) -> None:
    """Refuse a picture file that cannot be written, before the work starts."""
    if not target.parent.is_dir() or target.is_dir():
        found = "a folder" if target.is_dir() else "a missing folder"
        raise DataError(f"--picture {target}", expected="a file in an existing folder", found=found)


def _draw(picture: "Picture", target: Path, out: Console) -> None:
    from lookalike.lessons.png import save_png
    from lookalike.lessons.terminal import as_text

    out.print(f"\n{as_text(picture)}")
    save_png(picture, target)
    out.print(f"\npicture: {target}")
