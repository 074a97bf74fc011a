"""An explanation as plain JSON, for a response and for the command line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.evaluation.explain import Explanation, Occlusion, value_of
from lookalike.index.evaluation.input_parts import InputPart
from lookalike.training.tables.origin import Origin, absolute

__all__ = ["explanation_fields"]


def explanation_fields(
    occlusion: Occlusion, explanation: Explanation, origin: Origin, payloads: Sequence[dict[str, Any]] = ({}, {})
) -> dict[str, Any]:
    """Return {"score", "parts": [{"part", "kind", "place", "a", "b", "alike", "apart", "difference"}, ...]}.

    The parts are in the order of `alike`, the highest first. The value of a field of several columns, such as a date,
    is the value in the item's payload, if the payload has the field.
    """
    rows = list(zip(absolute(occlusion.pair, origin), payloads, strict=True))
    weights = sorted(explanation.weights, key=lambda weight: -weight.alike)
    parts = [
        {
            "part": weight.part.name,
            "kind": weight.part.kind,
            "place": weight.part.bounds,
            **{name: _value(weight.part, *row) for name, row in zip("ab", rows, strict=True)},
            "alike": weight.alike,
            "apart": weight.apart,
            "difference": weight.difference,
        }
        for weight in weights
    ]
    return {"score": explanation.score, "parts": parts}


def _value(part: InputPart, row: NDArray[np.floating], payload: dict[str, Any]) -> Any:
    return payload[part.name] if len(part.columns) > 1 and part.name in payload else value_of(part, row)
