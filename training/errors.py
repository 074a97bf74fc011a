"""What can go wrong, as one tree.

LookalikeError
├── ConfigError      a setting is unknown, mistyped or out of range
├── DataError        rows cannot be read, or hold something they must not
├── TrainingError    the loss left the numbers (NaN or infinite), or a run cannot begin
│   └── ResumeError  a run cannot go on: it began with other settings or other data
├── ExportError      the exported encoder does not answer as the live model does
├── ArtifactError    a file on disk is damaged, incomplete or of another format
└── (index.errors and service.errors grow their own branches)

Every error says what it is about, what was expected, what was found, and what to do.
"""

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DataError",
    "ExportError",
    "LookalikeError",
    "ResumeError",
    "TrainingError",
]


class LookalikeError(Exception):
    """A user's mistake or a broken file, told so that it can be mended.

    Args:
        field: what the error is about: a setting, a file with row and column, a request field.
        expected: what would have been right.
        found: what was there instead.
        remedy: what to do about it; may be empty where `expected` says it all.
    """

    def __init__(self, field: str, expected: str, found: str, remedy: str = "") -> None:
        self.field = field
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(field, expected, found, remedy)

    def __str__(self) -> str:
        text = f"{self.field}: expected {self.expected}, found {self.found}."
        return f"{text} {self.remedy}" if self.remedy else text


class ConfigError(LookalikeError):
    """A setting is unknown, mistyped or out of range."""


class DataError(LookalikeError):
    """Rows cannot be read, or hold something they must not."""


class TrainingError(LookalikeError):
    """The loss is no longer a number, or a run cannot begin."""


class ResumeError(TrainingError):
    """A run cannot go on: it began with other settings or other data."""


class ExportError(LookalikeError):
    """The exported encoder does not answer as the live model does."""


class ArtifactError(LookalikeError):
    """A file on disk is damaged, incomplete or of another format."""
