"""All errors of training, as one tree.

LookalikeError
├── ConfigError      a setting is unknown, mistyped or out of range
├── DataError        rows cannot be read, or contain a value that is not accepted
├── TrainingError    the loss is NaN or infinite, or a run cannot start
│   └── ResumeError  a run cannot be resumed: it started with other settings or other data
├── ExportError      the exported encoder does not agree with the live model
├── ArtifactError    a file on disk is damaged, incomplete or of another format
└── (index.errors and service.errors add branches)
"""

__all__ = ["ArtifactError", "ConfigError", "DataError", "ExportError", "LookalikeError", "ResumeError", "TrainingError"]


class LookalikeError(Exception):
    """A user's mistake or a damaged file, described so that the user can fix it.

    Args:
        field: what the error is about: a setting, a file with row and column, a request field.
        expected: what is accepted.
        found: the value that was found instead.
        remedy: what to do about it; empty if `expected` says it already.
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
    """Rows cannot be read, or contain invalid values."""


class TrainingError(LookalikeError):
    """The loss is NaN or infinite, or a run cannot start."""


class ResumeError(TrainingError):
    """A run cannot be resumed: it started with other settings or other data."""


class ExportError(LookalikeError):
    """The exported encoder's results differ from the live model's."""


class ArtifactError(LookalikeError):
    """A file on disk is damaged, incomplete or of another format."""
