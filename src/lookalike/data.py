"""Open the rows that the user named; print notes about how they were read to standard error."""

import sys

from lookalike.training.rows import Rows, open_rows
from lookalike.training.tables.columns import CATEGORIES, Column

__all__ = ["open_data"]


def open_data(data: str, *, columns: tuple[Column, ...] | None = None, categories: int = CATEGORIES) -> Rows:
    """Open rows with `training.rows.open_rows`, and print each of its notes to standard error."""
    rows = open_rows(data, columns=columns, categories=categories)
    for note in rows.notes:
        print(f"{data}: {note}", file=sys.stderr)
    return rows
