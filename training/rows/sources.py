"""Open the rows that a user names: a built-in set, a file or a folder."""

from collections.abc import Callable
from pathlib import Path

from lookalike.training.errors import DataError
from lookalike.training.rows.base import Rows
from lookalike.training.rows.builtin import BUILTIN
from lookalike.training.rows.csv_table import open_csv
from lookalike.training.rows.images import open_images
from lookalike.training.rows.streams import open_idx, open_npy, open_npz
from lookalike.training.rows.tables import open_parquet
from lookalike.training.tables.columns import CATEGORIES, Column

__all__ = ["open_rows"]

_ARRAYS: dict[str, Callable[[Path], Rows]] = {".npy": open_npy, ".npz": open_npz, ".gz": open_idx}
_TABLES: dict[str, Callable[..., Rows]] = {".parquet": open_parquet, ".csv": open_csv}


def open_rows(name: str, *, columns: tuple[Column, ...] | None = None, categories: int = CATEGORIES) -> Rows:
    """Open `digits` or `fashion-mnist` (optionally with `:test`), a file by its extension, or a folder of images.

    Args:
        columns: for a table, the columns of the encoder, matched by name; None detects the columns.
        categories: when columns are detected, text with at most this many distinct values is part of the input.

    Raises:
        DataError: there are no such rows, they cannot be read, or they do not have the encoder's columns.
    """
    base, _, part = name.partition(":")
    if base in BUILTIN and part in {"", "train", "test"}:
        return BUILTIN[base](part or "train")
    path = Path(name)
    if name and path.is_dir():
        return open_images(path)
    suffix = path.suffix.lower()
    if suffix not in _ARRAYS | _TABLES:
        known = ", ".join([*BUILTIN, *(f"*{suffix}" for suffix in _ARRAYS | _TABLES), "a folder of images"])
        found = f"the file name extension {suffix}" if suffix else "an unknown name"
        remedy = "Append `:test` for the test part of a built-in set."
        raise DataError(name, expected=known, found=found, remedy=remedy)
    if not path.is_file():
        raise DataError(name, expected="a file", found="no file at that path")
    if suffix == ".gz" and (inner := Path(path.stem).suffix.lower()) in _TABLES:
        expected = f"a {inner} file that is not compressed"
        raise DataError(name, expected=expected, found="the file name extension .gz", remedy="Run gunzip on it.")
    if suffix in _ARRAYS:
        return _ARRAYS[suffix](path)
    return _TABLES[suffix](path, columns, categories)
