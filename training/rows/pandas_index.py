"""The index of a DataFrame in a Parquet file: pandas names its columns in the metadata of the schema."""

import json
import re

import pyarrow as pa

__all__ = ["index_columns"]

_UNNAMED = re.compile(r"__index_level_\d+__")


def index_columns(schema: pa.Schema) -> set[str]:
    """The columns that were a DataFrame's index; one without a name is known by the name that pandas gives it."""
    try:
        told = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
        named = {name for name in told if isinstance(name, str)}  # a range is an object, and has no column
    except (ValueError, TypeError, LookupError):
        named = set()
    return {name for name in schema.names if name in named or _UNNAMED.fullmatch(name)}
