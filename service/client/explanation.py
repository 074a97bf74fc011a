"""The exchange of POST /explain: its request, and its response, which is checked completely."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.service.client.exchange import ClientOptions
from lookalike.service.client.images import Image, base64_image
from lookalike.service.client.messages import Exchange, Response
from lookalike.service.client.requests import check_ids, explain_call
from lookalike.service.client.responses import finite, malformed, read_version, sequence_of, truncate_repr

__all__ = ["ExplainedPart", "Explanation", "explain", "read_explanation"]

Row = NDArray[Any] | Sequence[Any] | dict[str, Any]
_WEIGHTS = ("alike", "apart", "difference")


@dataclass(frozen=True)
class ExplainedPart:
    """A part of two inputs, and how much it explains.

    Attributes:
        part: the name: a field of a table, or the place in a picture, a window or a row.
        place: of a tile top, left, bottom and right; of a segment channel, start and stop; of values start and stop.
        a, b: the value of the first and of the second; of several values the mean, or an object by column.
        alike: how much closer the embeddings are because of it than those of unrelated rows; 1 is the mean distance of
            two unrelated rows.
        apart: its share of the way from one embedding to the other.
        difference: the plain difference in standard deviations; of categories 0 or 1.
    """

    part: str
    kind: Literal["field", "tile", "segment", "values"]
    place: dict[str, Any]
    a: Any
    b: Any
    alike: float
    apart: float
    difference: float


@dataclass(frozen=True)
class Explanation:
    """The parts of two inputs, the highest `alike` first; `score` is that of the two embeddings."""

    version: int
    sequence: int
    score: float
    parts: tuple[ExplainedPart, ...]


def explain(
    ids: Sequence[str] | None, input: Row | None, image: Image | None, id: str | None, options: ClientOptions
) -> Exchange[Explanation]:
    """Explain two items, or an input or image and an item.

    Raises ValueError for other arguments, or what cannot be sent.
    """
    values = {"ids": ids, "input": input, "image": image, "id": id}
    given = [name for name, value in values.items() if value is not None]
    if given not in (["ids"], ["input", "id"], ["image", "id"]):
        raise ValueError(f"expected either ids, or id with input or image, found {' and '.join(given) or 'none'}")
    names = [id] if ids is None else list(ids)
    if isinstance(ids, str) or (ids is not None and len(names) != 2):
        raise ValueError(f"ids: expected the ids of two items, found {truncate_repr(ids)}")
    check_ids(names)
    if isinstance(input, np.ndarray) and not np.isfinite(input[~np.isnan(input)]).all():
        raise ValueError("input: expected finite numbers, found infinity")
    if ids is not None:
        fields: dict[str, Any] = {"ids": names}
    else:
        fields = {"id": id} | ({"input": input} if image is None else {"image": base64_image(image)})
    return read_explanation((yield from options.request(explain_call(fields))))


def read_explanation(response: Response) -> Explanation:
    """Read an explanation. Raises MalformedResponse, whose `field` names the wrong part."""
    fields = read_version(response)
    parts = fields.get("parts")
    if not isinstance(parts, list) or not parts:
        raise malformed(response, "parts", "a list of parts", truncate_repr(parts))
    read = tuple(_part(response, f"parts[{number}]", part) for number, part in enumerate(parts))
    return Explanation(fields["version"], sequence_of(response, fields), finite(response, "score", fields), read)


def _part(response: Response, path: str, part: Any) -> ExplainedPart:
    fields = part if isinstance(part, dict) else {}
    name, kind, place = (fields.get(key) for key in ("part", "kind", "place"))
    if not isinstance(name, str) or kind not in ("field", "tile", "segment", "values") or not isinstance(place, dict):
        raise malformed(response, path, "a part with its kind and place", truncate_repr(part))
    weights = (finite(response, key, fields, f"{path}.{key}") for key in _WEIGHTS)
    return ExplainedPart(name, kind, place, fields.get("a"), fields.get("b"), *weights)
