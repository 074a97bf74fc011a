"""Read the cells of a text file as text, in pieces of whole records, so that no cell is split.

Arrow receives each piece of whole records as one block: at the edge of a block, Arrow would treat a line break inside
quotes as the end of a record.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from lookalike.training.errors import DataError
from lookalike.training.rows.compressed import read_fully
from lookalike.training.rows.csv_header import PIECE, Header, damaged, not_decodable, open_text, record, records

__all__ = ["LONGEST", "read_cells"]

LONGEST = 1 << 26
"""The greatest length of a record, in bytes."""
_NULLS = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}
_PLACE = re.compile(r"(?:In CSV column #(\d+)|CSV parse error): Row #(\d+): (.*)")
_RAGGED = re.compile(r"Expected (\d+) columns, got (\d+): (.*)")


def read_cells(path: Path, header: Header, size: int = PIECE) -> Iterator[pa.RecordBatch]:
    """Yield all rows in order. Every column is text; a cell is null only if it is empty and has no quotes.

    `size`: bytes per read. Raises DataError if a row has more or fewer cells than the header has names, is not text in
    the file's encoding, is too long, or has a quoted cell that never ends; the error names the row, counted from 0.
    """
    first = 0
    try:
        with open_text(path, header.encoding) as file:
            read_fully(file, header.end)
            for piece in _pieces(file, header.delimiter, size):
                if piece.strip(b"\r\n"):
                    batch = _parse(path, header, piece, first)
                    first += len(batch)
                    yield batch
    except _EndlessRecordError as error:
        expected = f"a closing quote for each quoted cell, and at most {LONGEST:,} bytes in a row"
        found = "neither a closing quote nor the end of the row"
        raise DataError(f"{path}, row {first}", expected, found, remedy="Correct or remove the row.") from error
    except OSError as error:
        raise damaged(path, error) from error
    except UnicodeDecodeError as error:
        raise not_decodable(f"{path}, after row {first}", header.encoding, error.object[error.start]) from error


class _EndlessRecordError(Exception):
    """The next record is too long, or has a quoted cell that never ends."""


def _pieces(file: Any, delimiter: str, size: int) -> Iterator[bytes]:
    """Yield the rest of a file in pieces of whole records."""
    rest, data, requested = b"", b"", 0
    while len(data) == requested:  # a shorter read is the last one
        requested = max(size, len(rest))
        data = read_fully(file, requested)
        rest += data
        stop = _end_of_records(rest, delimiter)
        if len(data) == requested and stop:
            yield rest[:stop]
            rest = rest[stop:]
        elif len(rest) - stop > LONGEST:
            raise _EndlessRecordError
    last = record(delimiter).match(rest, stop)
    if last is None or last.end() < len(rest.rstrip(b"\r")):
        yield rest[:stop]
        raise _EndlessRecordError
    yield rest


def _end_of_records(data: bytes, delimiter: str) -> int:
    """Return the offset after the last whole record in bytes that begin with a record; 0 if there is none."""
    quote = data.find(b'"')
    plain = len(data) if quote < 0 else quote
    start = 1 + max(data.rfind(b"\n", 0, plain), data.rfind(b"\r", 0, min(plain, len(data) - 1)))
    if quote < 0:
        return start
    found = records(delimiter).match(data, start)
    return found.end() if found else start


def _parse(path: Path, header: Header, piece: bytes, first: int) -> pa.RecordBatch:
    names = header.names
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(piece),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=len(piece) + 1, use_threads=False),
            parse_options=pa_csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), **_NULLS),
        )
    except pa.ArrowInvalid as error:
        raise _broken_row(path, error, header, piece, first) from error
    return table.combine_chunks().to_batches()[0]


def _broken_row(path: Path, error: Exception, header: Header, piece: bytes, first: int) -> DataError:
    """Translate Arrow's error; Arrow counts the rows of a piece from 1."""
    if not (match := _PLACE.match(str(error))):
        return DataError(str(path), expected="a readable csv file", found=str(error).splitlines()[0])
    column, row, found = match.groups()
    field = f"{path}, row {first + int(row) - 1}"
    if column:
        bad = next(byte for byte in piece.decode(errors="surrogateescape") if "\udc80" <= byte <= "\udcff")
        return not_decodable(f"{field}, column {header.names[int(column)]}", header.encoding, ord(bad) - 0xDC00)
    if ragged := _RAGGED.match(found):
        found = f"{ragged[2]} in {ragged[3][:80]!r}"
    expected = f"{len(header.names)} cells, one for each name in the header"
    remedy = f"Correct or remove the row. A cell with {header.delimiter!r} needs quotes around it."
    return DataError(field, expected=expected, found=found, remedy=remedy)
