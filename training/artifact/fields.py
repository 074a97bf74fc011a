"""Typed fields of manifests: all fields are checked before any field is used.

A digest shows that a file was not changed, but not who sealed it. So a manifest is untrusted input: an unknown field,
a wrong type or a value out of bounds raises an ArtifactError that names the field.
"""

import json
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import MANIFEST, REMEDY, Sealed

__all__ = ["MAX_SAFE_INTEGER", "Count", "Digest", "Fields", "NotNegative", "Share", "check_fields"]

MAX_SAFE_INTEGER = (1 << 53) - 1
"""The largest integer that every JSON reader holds exactly; no count comes near it."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]
NotNegative = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
Share = Annotated[float, Field(ge=0, le=1)]
_EXPECTED = {"missing": "a value", "extra_forbidden": "no such field"}


class Fields(BaseModel):
    """Some fields of a manifest. Refuses other fields, wrong types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def check_together(self, *names: str) -> None:
        """Raise ValueError if some of these fields are present, but not all."""
        present = [name in self.model_fields_set and getattr(self, name) is not None for name in names]
        if self.model_fields_set.intersection(names) and not all(present):
            raise ValueError(f"{', '.join(names)}: each of them, or none")


T = TypeVar("T", bound=Fields)


def check_fields(sealed: Sealed, model: type[T]) -> T:
    """Return the header of a sealed folder as a model. Raises ArtifactError with the name of the first wrong field."""
    try:
        return model.model_validate_json(json.dumps(sealed.header), strict=True)
    except ValidationError as error:
        raise _refused(sealed, error) from error


def _refused(sealed: Sealed, error: ValidationError) -> ArtifactError:
    first = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])[1:]
    expected, found = _EXPECTED.get(first["type"]) or _plainly(first["msg"]), str(first["input"])[:80]
    if first["type"] == "missing":
        found = "nothing"
    elif not place:  # the error is about several fields, which its message names
        place, _, expected = expected.partition(": ")
        found = "some of them"
    return ArtifactError(f"{sealed.folder / MANIFEST}, {place[:200]}", expected=expected, found=found, remedy=REMEDY)


def _plainly(message: str) -> str:
    """The expectation in a pydantic message, without the value that was found."""
    for start in ("Input should be ", "Value error, ", "List should have ", "String should have ", "String should "):
        message = message.removeprefix(start)
    return message.partition(" after validation")[0]
