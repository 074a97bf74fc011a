"""The values of a query string, validated by a model."""

from typing import TypeVar

from pydantic import BaseModel
from starlette.datastructures import QueryParams

from lookalike.service.errors import MalformedError, RequestError
from lookalike.service.parsing.decoding import validate
from lookalike.service.parsing.json_bodies import parse_exactly

__all__ = ["read_params"]

_TEXTS = {"after", "encoding_format", "id", "kind"}
"""Parameters whose value is text; every other value is JSON: a number, true, false or an object."""
Model = TypeVar("Model", bound=BaseModel)


def read_params(model: type[Model], query: QueryParams) -> Model:
    """The parameters of a call as their model.

    Raises:
        MalformedError: a filter is not JSON.
        RequestError: a parameter is unknown, wrong, or given more than once.
    """
    fields: dict[str, object] = {}
    for name, text in query.multi_items():
        if name in fields:
            raise RequestError(name[:64], expected="the parameter once", found="it several times")
        fields[name] = text
        if name not in _TEXTS:
            try:
                fields[name] = parse_exactly(text, name)
            except MalformedError:  # the model refuses text in place of a number, and its error names what it accepts
                if name == "filter":
                    raise
    return validate(model, fields)
