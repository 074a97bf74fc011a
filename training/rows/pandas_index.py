"""Find the index of a DataFrame in a Parquet file: pandas lists the index columns in the schema's metadata."""

import json
import re

import pyarrow as pa

__all__ = ["index_columns"]

_UNNAMED = re.compile(r"__index_level_\d+__")


def index_columns(schema: pa.Schema) -> set[str]:
    """Return the columns that were a DataFrame's index; an unnamed index has the name that pandas generates."""
    try:
        listed = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
        named = {name for name in listed if isinstance(name, str)}  # a range index is an object without a column
    except (ValueError, TypeError, LookupError):
        named = set()
    return {name for name in schema.names if name in named or _UNNAMED.fullmatch(name)}
