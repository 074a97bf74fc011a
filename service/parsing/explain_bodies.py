"""From the JSON of an explain request to one validated query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.service.errors import RequestError
from lookalike.service.parsing.decoding import undecoded, validate
from lookalike.service.parsing.json_bodies import check_lists, parse_json
from lookalike.service.parsing.json_rows import rows_from_json
from lookalike.service.parsing.photos import Photo, photos_of_json
from lookalike.service.parsing.request_models import ExplainRequest
from lookalike.service.parsing.rows import RequestLimits, to_float32
from lookalike.service.parsing.segments import cut_segments
from lookalike.training.array_types import Floats

__all__ = ["ExplainQuery", "decode_explain"]

_EXPECTED = "either the ids of two items, or an input or image and the id of an item"


@dataclass(frozen=True)
class ExplainQuery:
    """A validated explain request.

    Attributes:
        ids: two ids, or the id of the second item.
        rows: (1, width) float32, the first item's input, minus the encoder's origin; (0, 0) if there are two ids.
        photos: the first item's photo, which is not decoded yet (the rows are then (1, 0)); empty without a photo.
    """

    ids: list[str]
    rows: Floats
    min_sequence: int = 0
    photos: Sequence[Photo] = ()


def decode_explain(body: bytes, limits: RequestLimits) -> ExplainQuery:
    """JSON {"ids": [a, b]}, {"input": row, "id": b} or {"image": photo, "id": b} -> a query.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    check_lists(body, limits)
    request = validate(ExplainRequest, parse_json(body))
    given = [name for name in ("ids", "input", "image", "id") if getattr(request, name) is not None]
    if request.ids is not None and given == ["ids"]:
        if len(request.ids) != 2:
            raise RequestError("ids", expected="the ids of two items", found=f"a list of {len(request.ids)}")
        return ExplainQuery(request.ids, np.empty((0, 0), np.float32), request.min_sequence)
    if request.id is None or len(given) != 2 or request.ids is not None:
        raise RequestError("ids, input, image, id", expected=_EXPECTED, found=" and ".join(given) or "none")
    if request.image is not None:
        photos = photos_of_json([request.image], "image", limits)
        return ExplainQuery([request.id], undecoded(photos), request.min_sequence, photos)
    if limits.windows:
        values = cut_segments([request.input], limits.windows, 1, "input").rows
    else:
        values = rows_from_json([request.input], "inputs", limits, "input")
    return ExplainQuery([request.id], to_float32(values, "inputs", limits, "input"), request.min_sequence)
