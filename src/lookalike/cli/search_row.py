"""Read the query of a search from JSON: a row of a table, or a part of it."""

import sys
from pathlib import Path
from typing import Any

import orjson

from lookalike.index.errors import QueryError
from lookalike.service.parsing.columns import TableInputs
from lookalike.training.array_types import Floats
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.tables.origin import relative

__all__ = ["read_row"]

MOST_BYTES = 1 << 26
_EXPECTED = 'a row as a JSON object such as {"color": "red"}, a list of rows, a file of rows, or -'


def read_row(text: str, encoder: RowEncoder) -> tuple[Floats, list[list[str] | None]]:
    """Return the rows of `text`, (n, width) float32 minus the encoder's origin, and the columns that each row uses.

    The columns of a whole row are None. `text` is JSON (one row or a list), the name of a file of JSON, or - for
    standard input.

    Raises:
        QueryError: the text has no such rows, or the encoder was not trained on a table.
        RequestError: a row does not fit the table; the error names the column.
    """
    table = TableInputs.of(encoder)
    if table is None:
        expected = "an encoder of a table"
        raise QueryError("--row", expected, f"rows of shape {encoder.input_shape}", "Use DATA or --id.")
    rows = _parsed(text)
    listed = rows if isinstance(rows, list) and rows and all(isinstance(row, dict | list) for row in rows) else [rows]
    at = "--row[{}]" if listed is rows else "--row"
    decoded = relative(table.decode(listed, at), encoder.origin)
    return decoded, table.used_by_queries(decoded, at) or [None] * len(decoded)


def _parsed(text: str) -> Any:
    if text == "-":
        content = sys.stdin.buffer.read(MOST_BYTES + 1)
    elif text.lstrip()[:1] in {"{", "["}:
        content = text.encode(errors="replace")
    elif (path := Path(text)).is_file():
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    else:
        raise QueryError("--row", expected=_EXPECTED, found=repr(text[:80]))
    if len(content) > MOST_BYTES:
        raise QueryError("--row", expected=f"at most {MOST_BYTES:,} bytes of JSON", found="a larger input")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise QueryError("--row", expected=_EXPECTED, found=str(error)[:80]) from error
