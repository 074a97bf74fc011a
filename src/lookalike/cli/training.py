"""The commands about training: train an encoder, diagnose a run, and explain a topic."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.options import Config, Data, Set, out, with_options
from lookalike.cli.reading_options import ReadingOptions

__all__ = ["doctor", "explain", "rates", "settings", "train"]


@with_options(ReadingOptions)
def train(
    data: Data,
    run: Annotated[
        Path,
        typer.Option(
            "--run", metavar="RUN", help="The folder for checkpoints and the encoder; a new folder, unless --resume."
        ),
    ],
    config: Config = None,
    set_: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN where it stopped.")] = False,
    *,
    options: ReadingOptions,
) -> None:
    """Train an autoencoder on DATA.

    Writes its encoder to RUN/encoder. Ctrl-C stops after the current epoch.
    """
    from lookalike.cli.tables import columns_line, findings_text, history_line
    from lookalike.data import note_skipped, open_data
    from lookalike.training.config import load_config
    from lookalike.training.doctor.causes import diagnose
    from lookalike.training.fit.job import train as train_run
    from lookalike.training.transforms import ImageTransform

    settings = load_config(config, [*options.overrides(), *(set_ or [])])
    rows = open_data(data, settings.data)
    if rows.columns:
        out.print(f"input: {columns_line(rows.columns)}")
    if isinstance(rows.transform, ImageTransform):
        out.print(f"input: {rows.transform.line}")
    state = train_run(rows, settings, run, resume=resume).state
    out.print(history_line(state))
    note_skipped(rows, run)
    if diagnose(state):
        out.print(f"\n{findings_text(state)}")


def settings() -> None:
    """Print all settings as a TOML file for --config.

    The file contains each setting with its default and its allowed values.
    """
    from lookalike.training.config import settings_toml

    print(settings_toml())


@with_options(ReadingOptions)
def rates(
    data: Data,
    config: Config = None,
    set_: Set = None,
    picture: Annotated[Path, typer.Option("--picture", metavar="P.png", help="The file for the curve.")] = Path(
        "rates.png"
    ),
    *,
    options: ReadingOptions,
) -> None:
    """Run a learning-rate range test.

    Tries rates from tiny to too large in one short run, prints the best rate, and draws the curve.
    """
    from lookalike.cli.explain import show_rates
    from lookalike.training.config import load_config

    show_rates(data, load_config(config, [*options.overrides(), *(set_ or [])]), picture, out)


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, finished or not.")],
    fix: Annotated[
        bool, typer.Option("--fix", help="Train again with the first advice, in RUN-fixed, and compare the two runs.")
    ] = False,
) -> None:
    """Explain why a run does not learn.

    Reports from the run's history what was seen, why it happens, what to change, and how sure the diagnosis is.
    """
    from lookalike.cli.tables import auto_fix_table, findings_text
    from lookalike.training.fit.auto_fix import auto_fix, read_run

    out.print(findings_text(read_run(run)[0]))
    if fix:
        result = auto_fix(run)
        out.print(auto_fix_table(result))
        out.print(f"the second run is in {result.folder}")


def explain(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Without a topic, all topics are listed.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="P.png", help="The file for the picture. [default: TOPIC.png]")
    ] = None,
    experiment: Annotated[
        bool, typer.Option("--experiment/--page", help="Also run the experiment, or only print the page.")
    ] = True,
) -> None:
    """Explain a topic, with an experiment on `digits`.

    Prints a page of text, runs the experiment, prints its numbers and draws a picture.
    """
    from lookalike.cli.explain import show_lesson
    from lookalike.lessons.catalogue import open_lesson, topics

    if topic is None:
        out.print("\n".join(f"{name:<22}{title}" for name, title in topics().items()))
        return
    lesson = open_lesson(topic)
    out.print(lesson.page)
    if experiment:
        show_lesson(lesson, picture or Path(f"{lesson.topic}.png"), out)
