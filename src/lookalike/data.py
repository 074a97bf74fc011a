"""Opens the rows that the user named; notes about how they were read go to standard error."""

import sys

from lookalike.training.rows import Rows, open_rows
from lookalike.training.tables.columns import CATEGORIES, Column

__all__ = ["open_data"]


def open_data(data: str, *, columns: tuple[Column, ...] | None = None, categories: int = CATEGORIES) -> Rows:
    """`training.rows.open_rows`, with a line on standard error for each of the notes."""
    rows = open_rows(data, columns=columns, categories=categories)
    for note in rows.notes:
        print(f"{data}: {note}", file=sys.stderr)
    return rows
