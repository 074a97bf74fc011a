"""From the JSON of an explain request to one validated query."""

from dataclasses import dataclass

from lookalike.service.errors import RequestError
from lookalike.service.parsing.decoding import validate
from lookalike.service.parsing.json_bodies import check_lists, parse_json
from lookalike.service.parsing.json_rows import rows_from_json
from lookalike.service.parsing.request_models import ExplainRequest
from lookalike.service.parsing.rows import RequestLimits, to_float32
from lookalike.service.parsing.segments import cut_segments
from lookalike.training.array_types import Floats

__all__ = ["ExplainQuery", "decode_explain"]

_EXPECTED = "either the ids of two items, or an input and the id of an item"


@dataclass(frozen=True)
class ExplainQuery:
    """A validated explain request.

    Attributes:
        ids: two ids, or the id of the second item.
        row: the first item's input, (1, width) float32, minus the encoder's origin; None if there are two ids.
    """

    ids: list[str]
    row: Floats | None = None
    min_sequence: int = 0


def decode_explain(body: bytes, limits: RequestLimits) -> ExplainQuery:
    """JSON {"ids": [a, b]} or {"input": row, "id": b} -> a query.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    if not limits.embeds:
        expected = "a version with an encoder, because an explanation changes inputs and embeds them"
        raise RequestError("version", expected=expected, found="a version of existing embeddings")
    check_lists(body, limits)
    request = validate(ExplainRequest, parse_json(body))
    given = [name for name in ("ids", "input", "id") if getattr(request, name) is not None]
    if request.ids is not None and given == ["ids"]:
        if len(request.ids) != 2:
            raise RequestError("ids", expected="the ids of two items", found=f"a list of {len(request.ids)}")
        return ExplainQuery(request.ids, None, request.min_sequence)
    if request.id is None or given != ["input", "id"]:
        raise RequestError("ids, input, id", expected=_EXPECTED, found=" and ".join(given) or "none")
    if limits.windows:
        values = cut_segments([request.input], limits.windows, 1, "input").rows
    else:
        values = rows_from_json([request.input], "inputs", limits, "input")
    return ExplainQuery([request.id], to_float32(values, "inputs", limits, "input"), request.min_sequence)
