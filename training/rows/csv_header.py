"""The first line of a text file with columns: its names, and how the rest of the file is written.

A record ends at LF, CRLF or CR outside quotes. A quote opens a quoted cell only at the start of the cell, as in
RFC 4180 and Python's `csv` module.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookalike.training.config import DataConfig
from lookalike.training.errors import ConfigError, DataError
from lookalike.training.rows.compressed import open_bytes, read_fully

__all__ = ["PIECE", "Header", "damaged", "not_decodable", "open_text", "read_header", "record", "records"]

PIECE = 1 << 24
"""Bytes per read."""
_BOM = b"\xef\xbb\xbf"
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte order marks, the longest first."""
_DELIMITERS = "\t;|,"
"""In order of preference, if several are equally likely: a comma is often part of a text or a number."""
_SAMPLE_BYTES, _SAMPLE_RECORDS = 1 << 20, 100


@dataclass(frozen=True)
class Header:
    """The first record of a file.

    Attributes:
        names: the column names.
        end: the offset at which the rows begin, in bytes of the decompressed text in UTF-8.
        delimiter: the character between cells.
        encoding: a codec's name.
    """

    names: list[str]
    end: int
    delimiter: str = ","
    encoding: str = "utf-8"


def read_header(path: Path, settings: DataConfig | None = None, *, trained: bool = False) -> Header:
    """Read the column names; `settings` as in `open_rows`.

    `trained`: the settings are those of an encoder's training, and another program may have written this file. So a
    file that is valid UTF-8 is read as UTF-8, even if `data.encoding` names a single-byte encoding.

    Raises:
        DataError: the file has no first line, or the line is not in the file's encoding, or is longer than 16 MiB.
        ConfigError: the encoding or the delimiter is unknown.
    """
    settings = settings or DataConfig()
    try:
        encoding = _encoding(path, settings.encoding, trained=trained)
        with open_text(path, encoding) as file:
            head = read_fully(file, PIECE)
    except OSError as error:
        raise damaged(path, error) from error
    except UnicodeDecodeError as error:
        raise not_decodable(str(path), encoding, error.object[error.start]) from error
    except UnicodeError as error:  # UTF-16 without a byte order mark
        remedy = "Leave the setting data.encoding out, or name the encoding that the file has."
        raise DataError(str(path), f"text in {encoding.upper()}", found=str(error), remedy=remedy) from error
    start = len(_BOM) if head.startswith(_BOM) else 0
    start = len(head) - len(head[start:].lstrip(b"\r\n"))
    if start == len(head):
        raise DataError(str(path), expected="a line of column names", found="an empty file")
    delimiter = _delimiter(head[start:], settings.delimiter)
    first = record(delimiter).match(head, start)
    if first is None or (first.end() == len(head) == PIECE):
        expected = f"a first line of column names, of at most {PIECE:,} bytes"
        found = "a quoted name without a closing quote" if first is None else "a longer line"
        raise DataError(str(path), expected=expected, found=found, remedy="Check that this is a text file of columns.")
    try:
        names = next(csv.reader([first.group().decode()], delimiter=delimiter))
    except UnicodeDecodeError as error:
        raise not_decodable(str(path), encoding, head[start + error.start]) from error
    except csv.Error as error:
        raise DataError(str(path), expected="a first line of column names", found=str(error)) from error
    return Header(names, first.end(), delimiter, encoding)


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[Any]:
    """Open a text file, also a compressed one, as a stream of bytes in UTF-8.

    Reading raises OSError if the file is damaged, and UnicodeDecodeError if its bytes are not in the encoding.
    """
    with open_bytes(path) as raw:
        yield raw if encoding == "utf-8" else pa.transcoding_input_stream(pa.input_stream(raw), encoding, "utf-8")


@cache
def record(delimiter: str) -> re.Pattern[bytes]:
    """Return the pattern of a record without its line break."""
    mark = re.escape(delimiter.encode())
    cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"|(?!"))[^' + mark + rb"\r\n]*+"
    return re.compile(rb"(?:" + cell + mark + rb")*+" + cell)


@cache
def records(delimiter: str) -> re.Pattern[bytes]:
    """Return the pattern of whole records; a CR at the end of the bytes may be the first half of a CRLF."""
    return re.compile(rb"(?:" + record(delimiter).pattern + rb"(?:\r\n|\n|\r(?!\Z)))*+")


def damaged(path: Path, error: OSError) -> DataError:
    """Return the error for a file that cannot be read or decompressed."""
    return DataError(str(path), expected="an intact file", found=str(error), remedy="Copy or download it again.")


def not_decodable(field: str, encoding: str, byte: int) -> DataError:
    """Return the error for a byte that is not text in the file's encoding."""
    found, expected = f"the byte 0x{byte:02x}", f"text in {encoding.upper()}"
    usual = "cp1252" if 0x80 <= byte < 0xA0 else "latin-1"  # latin-1 has control characters in this range
    remedy = f"Name the file's encoding, for example `--set data.encoding={usual}`, or save the file as UTF-8."
    return DataError(field, expected=expected, found=found, remedy=remedy)


def _encoding(path: Path, setting: str, *, trained: bool) -> str:
    """Return the name of the codec.

    A byte order mark has priority over a setting that names a single-byte encoding. `auto` means the encoding of the
    byte order mark, or UTF-8.
    """
    named = None if setting == "auto" else _codec(setting)
    if named and not _is_single_byte(named):
        return named
    with open_bytes(path) as file:
        head = read_fully(file, PIECE if named and trained else 4)
    if found := next((name for mark, name in _MARKS.items() if head.startswith(mark)), None):
        return found
    if named:
        return "utf-8" if head.startswith(_BOM) or (trained and _is_utf8(head)) else named
    if b"\0" in head:
        remedy = "For UTF-16 without a byte order mark, add `--set data.encoding=utf-16-le` (or utf-16-be)."
        raise DataError(str(path), expected="text in UTF-8", found="NUL bytes in its first line", remedy=remedy)
    return "utf-8"


_NO_TEXT = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
"""Python's codecs that are not encodings of files."""


def _is_single_byte(codec: str) -> bool:
    return len(bytes(range(256)).decode(codec, errors="replace")) == 256


def _is_utf8(head: bytes) -> bool:
    """Whether the bytes are UTF-8 and not only ASCII; the last character may be incomplete."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not head.isascii()


def _codec(name: str) -> str:
    try:
        "".encode(name)  # refuses codecs that are not of text
        if (codec := codecs.lookup(name).name) in _NO_TEXT:
            raise LookupError(codec)
        return codec
    except (LookupError, ValueError) as error:
        expected = "auto, or an encoding of text such as utf-8, latin-1, cp1252 or utf-16"
        raise ConfigError("data.encoding", expected=expected, found=repr(name)) from error


def _delimiter(head: bytes, setting: str) -> str:
    """Return the delimiter of a file that begins with `head`; `auto` compares the first records."""
    if setting != "auto":
        if not setting.isascii() or setting in '"\r\n':
            expected = "auto, or one ASCII character that is neither a quote nor a line break"
            raise ConfigError("data.delimiter", expected=expected, found=repr(setting))
        return setting
    sample = head[:_SAMPLE_BYTES].decode(errors="replace")
    ranks = {}
    for delimiter in _DELIMITERS:
        widths = _widths(sample, delimiter, cut=len(head) > _SAMPLE_BYTES)
        if widths and widths[0] > 1:
            ranks[delimiter] = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
    return max(ranks, key=ranks.__getitem__, default=",")


def _widths(text: str, delimiter: str, *, cut: bool) -> list[int]:
    """Return the numbers of cells of the first records; `cut`: the last record may be incomplete."""
    widths: list[int] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        widths.extend(len(row) for row in islice(reader, _SAMPLE_RECORDS) if row)
    except csv.Error:  # a cell that is longer than the csv module accepts
        return widths
    return widths[:-1] if cut and 1 < len(widths) < _SAMPLE_RECORDS else widths
