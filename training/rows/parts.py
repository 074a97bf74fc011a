"""The files that a table consists of: one file, or the files of a folder with hive partitions."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

__all__ = ["Part", "part_of"]

_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Part:
    """A file of a table.

    Attributes:
        constants: the columns that the names of its folders give it: `year=2024/` is a column `year`.
        sheet: the sheet of a workbook; "" is the first.
    """

    path: Path
    constants: dict[str, str | None] = field(default_factory=dict)
    sheet: str = ""


def part_of(path: Path, folder: Path) -> Part:
    """Return the part for a file under `folder`."""
    pairs = (name.partition("=") for name in path.relative_to(folder).parent.parts)
    values = {unquote(key): unquote(value) for key, equals, value in pairs if key and equals}
    return Part(path, {key: None if value == _NULL else value for key, value in values.items()})
