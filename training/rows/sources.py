"""Open the rows that a user names: a built-in set, a file or a folder."""

from importlib import import_module
from pathlib import Path
from typing import Any

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Rows
from lookalike.training.transforms import InputSpec

__all__ = ["open_rows"]

_ARRAYS = {".npy": "streams:open_npy", ".npz": "streams:open_npz", ".gz": "streams:open_idx"}
_TABLES = {".parquet": "parquet_table:open_parquet", ".csv": "csv_table:open_csv"}
"""By extension: the module of this room and its function; each is imported at its first use."""


def open_rows(name: str, settings: DataConfig | None = None, spec: InputSpec | None = None) -> Rows:
    """Open `digits` or `fashion-mnist` (optionally with `:test`), a file by its extension, or a folder of images.

    Args:
        settings: how to read the source; the defaults if None.
        spec: how an encoder reads its inputs, or that the rows are embeddings; None chooses the columns and the
            transform from the data.

    Raises:
        DataError: there are no such rows, they cannot be read, or they do not have the encoder's columns.
    """
    from lookalike.training.rows.builtin import BUILTIN

    settings = settings or (spec.settings if spec else DataConfig())
    base, _, part = name.partition(":")
    if base in BUILTIN and part in {"", "train", "test"}:
        return BUILTIN[base](part or "train")
    path = Path(name)
    if spec is not None and spec.vectors:
        return _open("vectors:open_vectors", path, settings)
    if name and path.is_dir():
        return _open("images:open_images", path, settings, spec)
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
        return _open(_ARRAYS[suffix], path)
    return _open(_TABLES[suffix], path, settings, spec)


def _open(opener: str, *arguments: Any) -> Rows:
    module, _, function = opener.partition(":")
    rows: Rows = getattr(import_module(f"lookalike.training.rows.{module}"), function)(*arguments)
    return rows
