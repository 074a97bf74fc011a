"""Read the cells of a .csv file as text, in pieces of whole records, so that no cell is split.

A record ends at LF, CRLF or CR outside quotes. A quote opens a quoted cell only at the start of the cell, as in
RFC 4180 and Python's `csv` module. Arrow receives each piece of whole records as one block: at the edge of a block,
Arrow would treat a line break inside quotes as the end of a record.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv

from lookalike.training.errors import DataError

__all__ = ["LONGEST", "Header", "read_cells", "read_header"]

PIECE = 1 << 24
"""Bytes per read."""
LONGEST = 1 << 26
"""The greatest length of a record, in bytes."""
_NULLS = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}
_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_CELL = rb'(?:"[^"]*+(?:""[^"]*+)*+"|(?!"))[^,\r\n]*+'
_RECORD = re.compile(rb"(?:" + _CELL + rb",)*+" + _CELL)
_RECORDS = re.compile(rb"(?:" + _RECORD.pattern + rb"(?:\r\n|\n|\r(?!\Z)))*+")
"""A CR at the end of the bytes may be the first half of a CRLF."""
_PLACE = re.compile(r"(?:In CSV column #(\d+)|CSV parse error): Row #(\d+): (.*)")
_RAGGED = re.compile(r"Expected (\d+) columns, got (\d+): (.*)")


@dataclass(frozen=True)
class Header:
    """The first record of a file: the column names, and the byte offset at which the rows begin."""

    names: list[str]
    end: int


def read_header(path: Path) -> Header:
    """Read the column names. Raises DataError unless the file has a first line, in UTF-8 and of at most 16 MiB."""
    with path.open("rb") as file:
        head = file.read(PIECE)
    if encoding := _OTHER_ENCODINGS.get(head[:2]) or ("UTF-16" if b"\0" in head[:4] else None):
        raise _not_utf8(str(path), encoding)
    start = len(_BOM) if head.startswith(_BOM) else 0
    start = len(head) - len(head[start:].lstrip(b"\r\n"))
    if start == len(head):
        raise DataError(str(path), expected="a line of column names", found="an empty file")
    record = _RECORD.match(head, start)
    if record is None or (record.end() == len(head) == PIECE):
        expected = f"a first line of column names, of at most {PIECE:,} bytes"
        found = "a quoted name without a closing quote" if record is None else "a longer line"
        raise DataError(str(path), expected=expected, found=found, remedy="Check that this is a .csv file.")
    try:
        names = next(csv.reader([record.group().decode()]))
    except UnicodeDecodeError as error:
        raise _not_utf8(str(path), f"the byte 0x{head[start + error.start]:02x}") from error
    except csv.Error as error:
        raise DataError(str(path), expected="a first line of column names", found=str(error)) from error
    return Header(names, record.end())


def read_cells(path: Path, header: Header, size: int = PIECE) -> Iterator[pa.RecordBatch]:
    """Yield all rows in order. Every column is text; a cell is null only if it is empty and has no quotes.

    Raises DataError if a row has another number of cells than the header has names, is not UTF-8, is too long, or its
    last quoted cell never ends; the error names the row, counted from 0. `size`: bytes per read.
    """
    first = 0
    try:
        with path.open("rb") as file:
            file.seek(header.end)
            for piece in _pieces(file, size):
                if piece.strip(b"\r\n"):
                    batch = _parse(path, header.names, piece, first)
                    first += len(batch)
                    yield batch
    except _EndlessRecordError as error:
        expected = f"a closing quote for each quoted cell, and at most {LONGEST:,} bytes in a row"
        found = "neither a closing quote nor the end of the row"
        raise DataError(f"{path}, row {first}", expected, found, remedy="Correct or remove the row.") from error


class _EndlessRecordError(Exception):
    """The next record is too long, or has a quoted cell that never ends."""


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the rest of a file in pieces of whole records."""
    rest, data, requested = b"", b"", 0
    while len(data) == requested:  # a shorter read is the last one
        requested = max(size, len(rest))
        data = file.read(requested)
        rest += data
        stop = _end_of_records(rest)
        if len(data) == requested and stop:
            yield rest[:stop]
            rest = rest[stop:]
        elif len(rest) - stop > LONGEST:
            raise _EndlessRecordError
    last = _RECORD.match(rest, stop)
    if last is None or last.end() < len(rest.rstrip(b"\r")):
        yield rest[:stop]
        raise _EndlessRecordError
    yield rest


def _end_of_records(data: bytes) -> int:
    """Return the offset after the last whole record in bytes that begin with a record; 0 if there is none."""
    quote = data.find(b'"')
    plain = len(data) if quote < 0 else quote
    start = 1 + max(data.rfind(b"\n", 0, plain), data.rfind(b"\r", 0, min(plain, len(data) - 1)))
    if quote < 0:
        return start
    found = _RECORDS.match(data, start)
    return found.end() if found else start


def _parse(path: Path, names: list[str], piece: bytes, first: int) -> pa.RecordBatch:
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(piece),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=len(piece) + 1, use_threads=False),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), **_NULLS),
        )
    except pa.ArrowInvalid as error:
        raise _broken_row(path, error, names, piece, first) from error
    return table.combine_chunks().to_batches()[0]


def _broken_row(path: Path, error: Exception, names: list[str], piece: bytes, first: int) -> DataError:
    """Translate Arrow's error; Arrow counts the rows of a piece from 1."""
    if not (match := _PLACE.match(str(error))):
        return DataError(str(path), expected="a readable csv file", found=str(error).splitlines()[0])
    column, row, found = match.groups()
    field = f"{path}, row {first + int(row) - 1}"
    if column:
        bad = next(byte for byte in piece.decode(errors="surrogateescape") if "\udc80" <= byte <= "\udcff")
        return _not_utf8(f"{field}, column {names[int(column)]}", f"the byte 0x{ord(bad) - 0xDC00:02x}")
    if ragged := _RAGGED.match(found):
        found = f"{ragged[2]} in {ragged[3][:80]!r}"
    expected = f"{len(names)} cells, one for each name in the header"
    remedy = "Correct or remove the row. A cell with a comma needs quotes around it."
    return DataError(field, expected=expected, found=found, remedy=remedy)


def _not_utf8(field: str, found: str) -> DataError:
    remedy = "Save the file as UTF-8, for example with `iconv -f LATIN1 -t UTF-8` or `iconv -f UTF-16 -t UTF-8`."
    return DataError(field, expected="text in UTF-8", found=found, remedy=remedy)
