"""Open the rows that a user names: a built-in set, a file, a folder, a URL, or an object in Python."""

import os
import re
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Rows
from lookalike.training.rows.compressed import ENDINGS, compression_of
from lookalike.training.rows.file_kinds import KINDS, ending, file_kind, folder_kind, is_streamed
from lookalike.training.rows.table_files import TableFile, table_file
from lookalike.training.transforms import ImageTransform, InputSpec, WindowTransform
from lookalike.training.transforms.image import PHOTO_ENDINGS

__all__ = ["check_reopens", "open_rows"]

_ARRAYS = {"npy": "streams:open_npy", "npz": "streams:open_npz", "idx": "streams:open_idx"}
"""By kind: the module of this room and its function; each is imported at its first use."""
_SHEET = re.compile(r"(.+?\.xls[xm])#(.+)", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?://|:)")


def open_rows(source: Any, settings: DataConfig | None = None, spec: InputSpec | None = None) -> Rows:
    """Open rows by a name, or from an object in Python.

    Args:
        source: `digits` or `fashion-mnist` (optionally with `:test`); the path of a file, or of a folder of images,
            tables or recordings; a URL, which is copied to a temporary file; or an object: a DataFrame, an Arrow
            table, a NumPy array, or a Dataset with a length and items (`training.rows.objects`).
        settings: how to read the source; the defaults if None.
        spec: how an encoder reads its inputs, or that the rows are embeddings; None chooses the columns and the
            transform from the data.

    Raises:
        DataError: no rows have this name, the rows cannot be read, they lack a column of the encoder, or a setting is
            only for recordings and the rows are not recordings.
    """
    settings = settings or (spec.settings if spec else DataConfig())
    rows = _open_source(source, settings, spec)
    if spec is None:
        rows.check_recording_settings(settings)
    return rows


def _open_source(source: Any, settings: DataConfig, spec: InputSpec | None) -> Rows:
    """Open rows by a name or from an object, as `open_rows` does."""
    from lookalike.training.rows.builtin import BUILTIN

    if not isinstance(source, str | os.PathLike):
        return _open("objects:open_object", source, settings, spec)
    name = os.fspath(source)
    base, _, part = name.partition(":")
    if base in BUILTIN and part in {"", "train", "test"}:
        return BUILTIN[base](part or "train")
    if _URL.match(name):
        copies = import_module("lookalike.training.rows.copies")
        address, sheet = _sheet(name)
        download = partial(copies.download, address)
        rows: Rows = copies.copied_rows(name, download, lambda copy: _open_path(copy, sheet, settings, spec))
        return rows
    if not name:
        _refuse(name)
    address, sheet = _sheet(name)
    return _open_path(Path(address), sheet, settings, spec)


def check_reopens(name: str, remedy: str) -> None:
    """Raise DataError, with a remedy, if `open_rows` cannot open rows again by their name.

    The file may be gone, or the rows came from an object in Python.
    """
    from lookalike.training.rows.builtin import BUILTIN

    if name.partition(":")[0] not in BUILTIN and not _URL.match(name) and not Path(_sheet(name)[0]).exists():
        found = "no file or folder at that path"
        raise DataError(name, expected="the file or folder that the rows came from", found=found, remedy=remedy)


def _open_path(path: Path, sheet: str, settings: DataConfig, spec: InputSpec | None) -> Rows:
    transform = spec.transform if spec else None
    if isinstance(transform, WindowTransform) or (spec is None and settings.window != "none"):
        return _open("recordings:open_recordings", path, settings, spec)
    if isinstance(transform, ImageTransform) and path.is_dir():
        return _open("images:open_images", path, settings, spec)
    if path.is_dir():
        return _open_folder(path, settings, spec)
    if path.suffix.lower() in PHOTO_ENDINGS and path.is_file():
        return _open("images:open_photo_file", path, settings, spec)
    kind = file_kind(path) if path.is_file() else ""
    if not kind:
        _refuse(str(path))
    if not is_streamed(kind) and compression_of(path):
        copies = import_module("lookalike.training.rows.copies")
        suffix = next(suffix for suffix, of in KINDS.items() if of == kind)
        unpack = partial(copies.decompress, path, suffix)
        rows: Rows = copies.copied_rows(str(path), unpack, lambda copy: _open_path(copy, sheet, settings, spec))
        return rows
    if kind in {"npy", "npz"} and spec is not None and spec.vectors:
        return _open("vectors:open_array", path, kind)
    if kind in _ARRAYS:
        return _open(_ARRAYS[kind], path)
    name = Path(f"{path}#{sheet}") if sheet else path
    return _open_table(name, kind, (TableFile(path, sheet=sheet),), settings, spec)


def _open_folder(folder: Path, settings: DataConfig, spec: InputSpec | None) -> Rows:
    """Open a folder by its contents."""
    kind, paths = folder_kind(folder)
    if kind == "images":
        return _open("images:open_images", folder, settings, spec)
    return _open_table(folder, kind, tuple(table_file(path, folder) for path in paths), settings, spec)


def _open_table(
    name: Path, kind: str, sources: Sequence[TableFile], settings: DataConfig, spec: InputSpec | None = None
) -> Rows:
    """Open a table of one or several files; its rows are embeddings if `spec.vectors` is true."""
    are_vectors = spec is not None and spec.vectors
    if kind == "text" and are_vectors:
        remedy = "Save the embeddings in one of these formats."
        raise DataError(str(name), "embeddings as .npy, .npz, .parquet, .arrow or .jsonl", "a text file", remedy)
    if kind == "text":
        return _open("csv_table:open_csv", name, settings, spec, sources)
    files = [_found("typed_files:open_typed_file")(kind, source) for source in sources]
    if are_vectors:
        return _open("vectors:open_vectors", name, files, settings)
    files = [_found("exported_table:exported_rows")(file, settings, spec) for file in files]
    reopen = partial(_open_table, name, kind, sources)
    return _open("typed_table:open_typed", name, files, settings, spec, reopen)


def _sheet(name: str) -> tuple[str, str]:
    """Split `FILE.xlsx#SHEET` into the file and the sheet; other names have no sheet."""
    found = _SHEET.fullmatch(name)
    return (found[1], found[2]) if found and not Path(name).exists() else (name, "")


def _refuse(name: str) -> None:
    """Raise the error for a name that no opener accepts."""
    from lookalike.training.rows.builtin import BUILTIN

    suffix, is_file = ending(Path(name)), Path(name).is_file()
    if not is_file and (suffix in PHOTO_ENDINGS | KINDS.keys() or Path(name).suffix.lower() in ENDINGS):
        raise DataError(name, expected="a file", found="no file at that path")
    known = ", ".join([*BUILTIN, *(f"*{suffix}" for suffix in KINDS), "*.gz, *.bz2 or *.zst of these, a URL"])
    expected = f"{known}, or a folder of images, tables or recordings"
    found = f"the file name extension {suffix}" if suffix else "an unknown name"
    remedy = "Save the rows in one of these formats." if is_file else "Check the path. `:test` is part of a name only "
    remedy += "" if is_file else "for built-in sets."
    raise DataError(name, expected=expected, found=found, remedy=remedy)


def _open(opener: str, *arguments: Any) -> Rows:
    rows: Rows = _found(opener)(*arguments)
    return rows


def _found(name: str) -> Any:
    """Return a function by its module of this room and its name."""
    module, _, function = name.partition(":")
    return getattr(import_module(f"lookalike.training.rows.{module}"), function)
