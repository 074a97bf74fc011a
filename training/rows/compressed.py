"""Open a file as a stream of bytes; a compressed file is decompressed, even if its name does not say so."""

from pathlib import Path
from typing import Any

__all__ = ["ENDINGS", "compression_of", "open_bytes", "read_fully"]

ENDINGS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""The endings of compressed files, and the names of their formats."""
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}


def compression_of(path: Path) -> str | None:
    """Return `gzip`, `bz2` or `zstd`, by the first bytes of a file; None if it is not compressed."""
    with path.open("rb") as file:
        head = file.read(4)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def open_bytes(path: Path) -> Any:
    """Return the contents as a binary stream, which is a context manager.

    Opening or reading raises OSError if the compressed bytes are damaged or incomplete.
    """
    compression = compression_of(path)
    if not compression:
        return path.open("rb")
    import pyarrow as pa  # here, so that the service starts without loading pyarrow

    return pa.input_stream(str(path), compression=compression)


def read_fully(stream: Any, count: int) -> bytes:
    """Return the next `count` bytes; fewer only at the end of the stream."""
    data: bytes = stream.read(count)
    if not data or len(data) == count:
        return data
    parts, missing = [data], count - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
