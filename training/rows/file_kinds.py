"""The kind of rows in a file or a folder: by the ending of its name, in upper or lower case, and by its first bytes."""

import os
from collections import defaultdict
from pathlib import Path

from lookalike.training.errors import DataError
from lookalike.training.rows.compressed import ENDINGS, compression_of, open_bytes, read_fully
from lookalike.training.transforms.image import PHOTO_ENDINGS

__all__ = ["KINDS", "TABLES", "ending", "file_kind", "folder_kind", "is_streamed"]

TABLES = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "text"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather"), "arrow"),
    **dict.fromkeys((".jsonl", ".ndjson"), "json"),
    **dict.fromkeys((".xlsx", ".xlsm"), "excel"),
}
KINDS = {".npy": "npy", ".npz": "npz", **TABLES}
"""The endings of files, and their kinds; a .gz file may also be of the kind `idx`."""
RECORDINGS = frozenset((".flac", ".npy", ".ogg", ".wav"))
_NAMED = 5
"""The greatest number of other files that an error names."""
_STREAMED = {"text", "json", "idx"}
_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\x93NUMPY": "npy"}
_IDX = tuple(bytes((0, 0, kind)) for kind in (8, 9, 11, 12, 13, 14))
_NAMES = {"zip": "a zip archive", "npy": "an .npy array", "parquet": "Parquet", "arrow": "Arrow", "idx": "an idx file"}


def ending(path: Path) -> str:
    """Return the ending of a name in lower case, without the ending of a compression: `.csv` for `a.CSV.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in ENDINGS else suffix


def file_kind(path: Path) -> str:
    """Return one of the values of `KINDS`, or `idx`; "" if neither the name nor the contents say what the file is.

    Raises DataError if the contents contradict the name, or are damaged.
    """
    named = KINDS.get(ending(path), "")
    try:
        compression = compression_of(path)
        with open_bytes(path) as file:
            found = _content(read_fully(file, 8))
    except OSError as error:
        raise DataError(str(path), expected="an intact file", found=str(error)) from error
    if named:
        fits = found in {"", named} or (found == "zip" and named in {"npz", "excel"})
        if not fits:
            remedy = "Rename the file to match its contents, or save it in the format of its name."
            expected = f"a {ending(path)} file, according to its name"
            raise DataError(str(path), expected=expected, found=f"the contents of {_NAMES[found]}", remedy=remedy)
        return named
    if compression == "gzip" and found == "idx":
        return found
    if compression and path.suffix.lower() in ENDINGS:
        return {"": "text", "zip": "npz", "idx": "text"}.get(found, found)
    return ""


def is_streamed(kind: str) -> bool:
    """Whether a compressed file of a kind is read while it is decompressed; other kinds need random access."""
    return kind in _STREAMED


def folder_kind(folder: Path) -> tuple[str, list[Path]]:
    """Return `images`, or the kind of the tables in a folder and their paths, sorted.

    A table does not count if its name, or the name of a folder above it, begins with `.` or `_`. A .txt file does not
    count either. A folder of images may contain other files.

    Raises DataError for a folder without images and tables, or with tables of several kinds.
    """
    images, recordings = 0, 0
    others: list[str] = []
    tables: dict[str, list[Path]] = defaultdict(list)
    seen = set[str]()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        is_hidden = any(part.startswith((".", "_")) for part in Path(parent).relative_to(folder).parts)
        for name in names:
            path = Path(parent, name)
            kind = TABLES.get(ending(path), "") if ending(path) != ".txt" else ""
            if path.suffix.lower() in PHOTO_ENDINGS:
                images += 1
            elif kind and not (is_hidden or name.startswith((".", "_"))):
                tables[kind].append(path)
            elif path.suffix.lower() in RECORDINGS:
                recordings += 1
            elif len(others) < _NAMED:
                others.append(name)
    if images and images >= sum(map(len, tables.values())):
        return "images", []
    if len(tables) == 1 and not images:
        kind, paths = next(iter(tables.items()))
        return kind, sorted(paths)
    found = [f"{len(paths):,} {kind} files" for kind, paths in sorted(tables.items())]
    found += [f"{images:,} images"] if images else []
    remedy = "Keep one kind in the folder."
    if not found:
        found = (
            [f"{recordings:,} recordings"]
            if recordings
            else ["no photos", *([f"only {', '.join(others)}"] if others else [])]
        )
        remedy = "To cut recordings into windows, add --window." if recordings else ""
    suffixes = " ".join(suffix for suffix in TABLES if suffix != ".txt")
    expected = f"a folder of images: {' '.join(sorted(PHOTO_ENDINGS))}; or of tables of one kind: {suffixes}"
    raise DataError(str(folder), expected=expected, found=", ".join(found), remedy=remedy)


def _content(head: bytes) -> str:
    """Return the kind of a file by its first bytes: `zip` for an archive, "" if the bytes are of no known kind."""
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_IDX) and len(head) > 3 and head[3] in (1, 2, 3, 4):
        return "idx"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
