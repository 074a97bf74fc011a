"""Apply the doctor's first remedy: train again in a new folder, with the same rows and only those settings changed."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.training.config import build_config
from lookalike.training.doctor.causes import diagnose
from lookalike.training.doctor.finding import Finding
from lookalike.training.errors import DataError, TrainingError
from lookalike.training.fit.checkpoint import latest_checkpoint, read_state
from lookalike.training.fit.job import train
from lookalike.training.fit.split import split_rows
from lookalike.training.history import State
from lookalike.training.rows import open_rows
from lookalike.training.rows.sources import check_reopens

__all__ = ["AutoFixResult", "auto_fix", "read_run"]


@dataclass(frozen=True)
class AutoFixResult:
    """A run, the advice that was applied, and the new run with its folder."""

    before: State
    advice: Finding
    after: State
    folder: Path


def read_run(run: Path) -> tuple[State, dict[str, Any]]:
    """Return the history of a run and its settings, from its newest intact checkpoint.

    Raises TrainingError if there is no run, and ArtifactError if all its checkpoints are damaged.
    """
    if not (checkpoint := latest_checkpoint(run)):
        expected, remedy = "the folder of a run", "Train with --run first."
        raise TrainingError(str(run), expected=expected, found="no checkpoint", remedy=remedy)
    return read_state(checkpoint), checkpoint.header["settings"]


def auto_fix(run: Path) -> AutoFixResult:
    """Train again with the first advice that changes a setting, in RUN-fixed (or -fixed-2, ...).

    Raises:
        TrainingError: the run is healthy, no remedy changes a setting, or the new run fails too.
        DataError: the rows cannot be read any more, or have changed.
    """
    before, settings = read_run(run)
    original = build_config(settings["config"], [])
    findings = diagnose(before)
    advised = ((finding, build_config(settings["config"], list(finding.settings))) for finding in findings)
    advice, config = next(((finding, config) for finding, config in advised if config != original), (None, original))
    if not advice:
        found = f"{findings[0].cause}, with the remedy: {findings[0].change}" if findings else "a healthy run"
        raise TrainingError(str(run), expected="a finding that a change of settings can fix", found=found)
    folder = _new_folder(run)
    check_reopens(settings["data"]["name"], "Save the rows to a file, and train on the file.")
    rows = open_rows(settings["data"]["name"], config.data)
    same = split_rows(rows.with_settings(original.data), original).digest() == settings["data"]["sha256"]
    if not same:  # a better result would not be due to the advice
        raise DataError(rows.name, expected="the rows that the run was trained on", found="different rows")
    return AutoFixResult(before, advice, train(rows, config, folder).state, folder)


def _new_folder(run: Path) -> Path:
    run = run.resolve()  # `.` and `..` have no name
    first = run.with_name(f"{run.name}-fixed")
    numbered = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([first], numbered) if not folder.exists())
