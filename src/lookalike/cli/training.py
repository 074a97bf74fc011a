"""The commands about training: fit an encoder, see why a run does not learn, and have it explained."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.options import Config, Data, Set, out

__all__ = ["doctor", "explain", "rates", "settings", "train"]


def train(
    data: Data,
    run: Annotated[
        Path,
        typer.Option(
            "--run", metavar="RUN", help="The folder for checkpoints and the encoder; a new one, unless --resume."
        ),
    ],
    config: Config = None,
    set_: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN where it stopped.")] = False,
) -> None:
    """Train an autoencoder on DATA and leave its encoder in RUN/encoder. Ctrl-C ends it after the epoch in hand."""
    from lookalike.cli.tables import columns_line, findings_text, history_line
    from lookalike.data import open_data
    from lookalike.training.config import load_config
    from lookalike.training.doctor.causes import diagnose
    from lookalike.training.fit.job import train as train_run

    wanted = load_config(config, set_)
    rows = open_data(data, categories=wanted.data.categories)
    if rows.columns:
        out.print(f"input: {columns_line(rows.columns)}; every other column travels in the payload")
    done = train_run(rows, wanted, run, resume=resume)
    out.print(history_line(done.state))
    if diagnose(done.state):
        out.print(f"\n{findings_text(done.state)}")


def settings() -> None:
    """Print every setting with its default and what it may be, as a TOML file for --config."""
    from lookalike.training.config import settings_toml

    print(settings_toml())


def rates(
    data: Data,
    config: Config = None,
    set_: Set = None,
    picture: Annotated[Path, typer.Option("--picture", metavar="P.png", help="The file for the curve.")] = Path(
        "rates.png"
    ),
) -> None:
    """Try learning rates from tiny to too large in one short run; print the one to train with, and draw the curve."""
    from lookalike.cli.explain import show_rates
    from lookalike.training.config import load_config

    show_rates(data, load_config(config, set_), picture, out)


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, finished or not.")],
    fix: Annotated[
        bool, typer.Option("--fix", help="Train again with the first advice, in RUN-mended, and compare.")
    ] = False,
) -> None:
    """Say why a run does not learn, from its history alone: what was seen, why, what to change, and how sure it is."""
    from lookalike.cli.tables import auto_fix_table, findings_text
    from lookalike.training.fit.auto_fix import auto_fix, read_run

    out.print(findings_text(read_run(run)[0]))
    if fix:
        mended = auto_fix(run)
        out.print(auto_fix_table(mended))
        out.print(f"the second run is in {mended.folder}")


def explain(
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="Without one, the topics are listed.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="P.png", help="The file for the picture. [default: TOPIC.png]")
    ] = None,
    experiment: Annotated[bool, typer.Option("--experiment/--page", help="Run the experiment, or only read.")] = True,
) -> None:
    """Answer a "why?": a page of plain words, and an experiment on `digits` with its numbers and a picture."""
    from lookalike.cli.explain import show_lesson
    from lookalike.lessons.catalogue import open_lesson, topics

    if topic is None:
        out.print("\n".join(f"{name:<22}{title}" for name, title in topics().items()))
        return
    lesson = open_lesson(topic)
    out.print(lesson.page)
    if experiment:
        show_lesson(lesson, picture or Path(f"{lesson.topic}.png"), out)
