"""From what the user typed to rows."""

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
    """Open `digits`, `fashion-mnist`, either with `:test`, a file by its ending, or a folder of images.

    Args:
        columns: of a table, those of the encoder that it is for, found by name; None finds out what there is.
        categories: where it finds out, text with at most so many distinct values is part of the input.

    Raises:
        DataError: there is no such thing, it cannot be read, or it is not what the encoder was trained on.
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
        raise DataError(
            name,
            expected=known,
            found=f"the ending {suffix}" if suffix else "something else",
            remedy="`:test` names the test part of a built-in set.",
        )
    if not path.is_file():
        raise DataError(name, expected="a file", found="none at that path")
    if suffix == ".gz" and (inner := Path(path.stem).suffix.lower()) in _TABLES:
        raise DataError(
            name, expected=f"a {inner} file that is not compressed", found="the ending .gz", remedy="Run gunzip on it."
        )
    if suffix in _ARRAYS:
        return _ARRAYS[suffix](path)
    return _TABLES[suffix](path, columns, categories)
