"""An explanation as plain JSON, for a response and for the command line."""

from typing import Any

from lookalike.index.evaluation.explain import Explanation, Occlusion, value_of
from lookalike.training.tables.origin import Origin, absolute

__all__ = ["explanation_fields"]


def explanation_fields(occlusion: Occlusion, explanation: Explanation, origin: Origin) -> dict[str, Any]:
    """Return {"score", "parts": [{"part", "kind", "place", "a", "b", "alike", "apart", "difference"}, ...]}.

    The parts are in the order of `alike`, the highest first.
    """
    a, b = absolute(occlusion.pair, origin)
    weights = sorted(explanation.weights, key=lambda weight: -weight.alike)
    parts = [
        {
            "part": weight.part.name,
            "kind": weight.part.kind,
            "place": weight.part.bounds,
            "a": value_of(weight.part, a),
            "b": value_of(weight.part, b),
            "alike": weight.alike,
            "apart": weight.apart,
            "difference": weight.difference,
        }
        for weight in weights
    ]
    return {"score": explanation.score, "parts": parts}
