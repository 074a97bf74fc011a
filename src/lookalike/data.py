"""Open the rows that the user named; print notes about how they were read to standard error."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

from lookalike.training.config import DataConfig
from lookalike.training.rows import Rows, open_rows
from lookalike.training.transforms import InputSpec

__all__ = ["note_skipped", "open_data", "open_inputs"]


def open_data(data: str, settings: DataConfig | None = None, spec: InputSpec | None = None) -> Rows:
    """Open rows with `training.rows.open_rows`, and print each of its notes to standard error."""
    rows = open_rows(data, settings, spec)
    for note in rows.notes:
        print(f"{data}: {note}", file=sys.stderr)
    return rows


def open_inputs(data: str, spec: InputSpec) -> Rows:
    """Open rows as an encoder reads them, and print their notes; any number of files but all may be unreadable."""
    return open_data(data, replace(spec.settings, max_unreadable=1.0), spec)


def note_skipped(rows: Rows, folder: Path) -> None:
    """Write FOLDER/skipped.csv with the name of each file that could not be read, and the reason; say so.

    Without such files, nothing is written.
    """
    if not rows.skipped:
        return
    target = folder / "skipped.csv"
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "reason"), *rows.skipped])
    print(f"{target} lists the files that could not be read ({len(rows.skipped):,})", file=sys.stderr)
