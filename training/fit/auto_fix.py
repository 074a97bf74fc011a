"""Follow the doctor's first advice: the same rows and settings but for what it changes, in a run of its own."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.training.config import TrainConfig, build_config
from lookalike.training.doctor.causes import diagnose
from lookalike.training.doctor.finding import Finding
from lookalike.training.errors import DataError, TrainingError
from lookalike.training.fit.checkpoint import latest_checkpoint, read_state
from lookalike.training.fit.job import train
from lookalike.training.fit.split import split_rows
from lookalike.training.history import State
from lookalike.training.rows import Rows, open_rows

__all__ = ["AutoFixResult", "auto_fix", "read_run"]


@dataclass(frozen=True)
class AutoFixResult:
    """A run, the advice that was followed, and the run that came of it."""

    before: State
    advice: Finding
    after: State
    folder: Path


def read_run(run: Path) -> tuple[State, dict[str, Any]]:
    """The history of a run and the settings that it began with, from its newest whole checkpoint.

    Raises:
        TrainingError: there is no run.
        ArtifactError: no checkpoint is whole.
    """
    if not (checkpoint := latest_checkpoint(run)):
        raise TrainingError(
            str(run), expected="the folder of a run", found="no checkpoint", remedy="Train with --run first."
        )
    return read_state(checkpoint), checkpoint.header["settings"]


def auto_fix(run: Path) -> AutoFixResult:
    """Train again with the first advice that changes a setting, in RUN-mended (or -mended-2, ...).

    Raises:
        TrainingError: there is nothing to auto_fix, or no remedy changes a setting; or the second run fails too.
        DataError: the rows are not there any more, or have changed.
    """
    before, settings = read_run(run)
    began = build_config(settings["config"], [])
    findings = diagnose(before)
    advised = ((finding, build_config(settings["config"], list(finding.settings))) for finding in findings)
    advice, config = next(((finding, config) for finding, config in advised if config != began), (None, began))
    if not advice:
        found = f"{findings[0].cause}, mended by: {findings[0].change}" if findings else "a healthy run"
        raise TrainingError(str(run), expected="a finding that a change of settings can auto_fix", found=found)
    folder = _free(run)
    rows = open_rows(settings["data"]["name"], categories=config.data.categories)
    _check_same(rows, began, settings)
    return AutoFixResult(before, advice, train(rows, config, folder).state, folder)


def _check_same(rows: Rows, config: TrainConfig, settings: dict[str, Any]) -> None:
    """Other rows would be another run, whatever came of the advice."""
    if split_rows(rows.with_categories(config.data.categories), config).digest() != settings["data"]["sha256"]:
        raise DataError(rows.name, expected="the rows that the run was trained on", found="others")


def _free(run: Path) -> Path:
    run = run.resolve()  # `.` and `..` have no name
    first = run.with_name(f"{run.name}-mended")
    others = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([first], others) if not folder.exists())
