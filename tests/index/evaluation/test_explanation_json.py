import numpy as np
import pytest

from lookalike.index.evaluation.explain import Occlusion
from lookalike.index.evaluation.explanation_json import explanation_fields
from lookalike.index.evaluation.input_parts import InputPart
from lookalike.training.tables.columns import Column
from tests.factories import cloud

PARTS = [
    InputPart("field", "when", np.array([0, 2]), (Column("when.hour"), Column("when.day"))),
    InputPart("field", "price", np.array([1]), (Column("price"),)),
]
PAIR = np.array([[1, 2, 3], [1, 5, 4]], np.float32)


def fields(payloads: tuple[dict[str, object], dict[str, object]] = ({}, {})) -> dict[str, dict[str, object]]:
    occlusion = Occlusion(PAIR, PARTS, cloud(20, 3), 4)
    explanation = occlusion.explain(np.concatenate(list(occlusion.blocks())), "l2")
    found = explanation_fields(occlusion, explanation, np.array([0.0, 100, 0]), payloads)
    assert found["score"] == pytest.approx(np.sqrt(10))
    weights = [part["alike"] for part in found["parts"]]
    assert weights == sorted(weights, reverse=True)
    return {part["part"]: part for part in found["parts"]}


def test_values_have_the_origin_and_the_names_of_several_columns() -> None:
    parts = fields()
    assert (parts["price"]["a"], parts["price"]["b"]) == (102, 105)
    assert parts["when"]["a"] == {"when.hour": 1, "when.day": 3}
    assert parts["price"]["apart"] == pytest.approx(0.9)
    assert (parts["price"]["kind"], parts["price"]["place"]) == ("field", {})


def test_a_field_of_several_columns_has_the_value_of_the_payload() -> None:
    parts = fields(({"when": "noon", "price": "much"}, {}))
    assert parts["when"]["a"] == "noon"
    assert parts["when"]["b"] == {"when.hour": 1, "when.day": 4}
    assert parts["price"]["a"] == 102
