"""Open the rows that the user named; print notes about how they were read to standard error."""

import csv
import sys
from pathlib import Path

from lookalike.training.config import DataConfig
from lookalike.training.rows import Rows, open_rows
from lookalike.training.transforms import InputSpec

__all__ = ["open_data", "write_skipped"]


def open_data(data: str, settings: DataConfig | None = None, spec: InputSpec | None = None) -> Rows:
    """Open rows with `training.rows.open_rows`, and print each of its notes to standard error."""
    rows = open_rows(data, settings, spec)
    for note in rows.notes:
        print(f"{data}: {note}", file=sys.stderr)
    return rows


def write_skipped(rows: Rows, target: Path) -> None:
    """Write a CSV file with the name of each file that could not be read, and the reason."""
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "reason"), *rows.skipped])
