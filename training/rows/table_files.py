"""The files that a table consists of: one file, or the files of a folder with hive partitions."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

__all__ = ["TableFile", "table_file"]

_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class TableFile:
    """A file of a table.

    Attributes:
        constants: the partition columns, from the names of the folders: `year=2024/` is a column `year` with one value.
        sheet: the sheet of a workbook; "" for the first sheet.
    """

    path: Path
    constants: dict[str, str | None] = field(default_factory=dict)
    sheet: str = ""


def table_file(path: Path, folder: Path) -> TableFile:
    """Return a file under `folder` with the columns of its partition."""
    pairs = (name.partition("=") for name in path.relative_to(folder).parent.parts)
    values = {unquote(key): unquote(value) for key, equals, value in pairs if key and equals}
    return TableFile(path, {key: None if value == _NULL else value for key, value in values.items()})
