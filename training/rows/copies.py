"""Rows of a temporary copy: of a URL, or of a compressed file that is not read in order.

The copy is removed when its rows are not used any more, and at the end of the process.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.rows.compressed import open_bytes
from lookalike.training.rows.payloads import TablePayloads
from lookalike.training.transforms import InputSpec

__all__ = ["copied_rows", "decompress", "download"]

_BLOCK = 1 << 20


def copied_rows(name: str, fill: Callable[[Path], Path], open_copy: Callable[[Path], Rows]) -> Rows:
    """Return the rows of a copy under the original's name.

    Args:
        fill: writes the copy into a folder, and returns its path.
        open_copy: opens the copy.
    """
    copy = _Copy()
    copy.path = fill(copy.folder)
    with _named(copy, name):
        return _renamed(open_copy(copy.path), copy, name)


class _Copy:
    """A temporary folder, removed when this object is not used any more."""

    def __init__(self) -> None:
        self.folder = self.path = Path(tempfile.mkdtemp(prefix="lookalike-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def decompress(path: Path, suffix: str, folder: Path) -> Path:
    """Write the decompressed file into a folder, and return its path. Raises DataError if it is damaged.

    `suffix`: the ending of the decompressed file's name.
    """
    to = folder / f"data{suffix}"
    try:
        with open_bytes(path) as source, to.open("wb") as out:
            while block := source.read(_BLOCK):
                out.write(block)
    except OSError as error:
        raise DataError(str(path), expected="an intact file that fits on the disk", found=str(error)) from error
    return to


def download(url: str, folder: Path) -> Path:
    """Write the file or the folder at a URL into a folder with fsspec, and return its path.

    Raises DataError if there is no such file, the disk has no room, or a package for the URL's protocol is missing.
    """
    try:
        import fsspec
    except ImportError as error:
        remedy = "Run `pip install 'lookalike[remote]'`."
        raise DataError(url, "the extra `remote` for URLs", "that fsspec is not installed", remedy=remedy) from error
    try:
        system, path = fsspec.core.url_to_fs(url)
        is_folder = system.isdir(path)
        sizes = {name: info.get("size") or 0 for name, info in system.find(path, detail=True).items()}
        _check_room(url, folder, sizes)
        to = folder / (path.rstrip("/").rpartition("/")[2] or "data")
        for name in sizes:
            target = to / _relative(name, path) if is_folder else to
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(name, str(target))
    except DataError:
        raise
    except ImportError as error:
        remedy = "Install the package that the message names."
        raise DataError(url, "a package for the URL's protocol", found=str(error), remedy=remedy) from error
    except Exception as error:  # each protocol's package raises its own errors
        found = str(error) or type(error).__name__
        raise DataError(url, expected="a readable URL", found=found.splitlines()[0]) from error
    return to


def _check_room(url: str, folder: Path, sizes: dict[str, Any]) -> None:
    if not sizes:
        raise DataError(url, expected="a file, or a folder with files", found="no file at that URL")
    needed, free = sum(sizes.values()), shutil.disk_usage(folder).free
    if needed > free:
        remedy = "Set TMPDIR to a folder on a larger disk."
        found = f"{free:,} free bytes in {folder.parent}"
        raise DataError(url, expected=f"{needed:,} free bytes for a copy", found=found, remedy=remedy)


def _relative(name: str, path: str) -> Path:
    relative = Path(name.removeprefix(path).lstrip("/"))
    if ".." in relative.parts or relative.is_absolute():
        raise DataError(name, expected="a file inside the folder", found="a name with `..`")
    return relative


def _renamed(rows: Rows, copy: _Copy, name: str) -> Rows:
    def ids(read: Callable[[], Iterator[list[str]]]) -> Iterator[list[str]]:
        with _named(copy, name):
            yield from read()

    return replace(
        rows,
        name=name,
        read=partial(_chunks, rows.read, copy, name),
        reopen=partial(_reopened, rows.reopen, copy, name) if rows.reopen else None,
        read_with_previews=partial(_chunks, rows.read_with_previews, copy, name) if rows.read_with_previews else None,
        ids=partial(ids, rows.ids) if rows.ids else None,
    )


def _chunks(read: Callable[[int], Iterator[Chunk]], copy: _Copy, name: str, size: int) -> Iterator[Chunk]:
    """Yield the chunks that `read` yields; payloads that are converted later also name the original in errors."""
    with _named(copy, name):
        for chunk in read(size):
            if isinstance(chunk.payloads, TablePayloads):
                chunk = replace(chunk, payloads=chunk.payloads.renamed(str(copy.path), name))
            yield chunk


def _reopened(
    reopen: Callable[[DataConfig, InputSpec | None], Rows],
    copy: _Copy,
    name: str,
    settings: DataConfig,
    spec: InputSpec | None,
) -> Rows:
    with _named(copy, name):
        return _renamed(reopen(settings, spec), copy, name)


@contextmanager
def _named(copy: _Copy, name: str) -> Iterator[None]:
    """Name the original in errors."""
    try:
        yield
    except DataError as error:
        field = error.field.replace(str(copy.path), name)
        raise DataError(field, error.expected, error.found, remedy=error.remedy) from error
