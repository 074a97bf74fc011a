import pyarrow as pa
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.payloads import TablePayloads

BATCH = pa.RecordBatch.from_pydict({"n": [1, None], "x": [0.5, float("nan")], "kind": ["u", None], "on": [True, False]})


def test_payloads_have_the_values_of_the_columns_as_json_values() -> None:
    payloads = TablePayloads(BATCH, ["n", "x", "on"], "", ("t", 0))
    assert list(payloads) == [{"n": 1, "x": 0.5, "on": True}, {"n": None, "x": None, "on": False}]
    assert (len(payloads), payloads[1]["on"], payloads[:1]) == (2, False, [{"n": 1, "x": 0.5, "on": True}])
    assert payloads.labels() == [None, None]


def test_the_label_is_also_under_its_own_name() -> None:
    payloads = TablePayloads(BATCH, ["kind"], "kind", ("t", 0))
    assert payloads == [{"kind": "u", "label": "u"}, {"kind": None, "label": None}]
    assert payloads.labels() == ["u", None]
    assert TablePayloads(BATCH, [], "kind", ("t", 0)) == [{"label": "u"}, {"label": None}]


def test_payloads_may_be_empty() -> None:
    assert list(TablePayloads(BATCH, [], "", ("t", 0))) == [{}, {}]


def test_names_the_row_of_a_value_that_is_no_json_value() -> None:
    batch = pa.RecordBatch.from_pydict({"x": [0.5, float("inf")]})
    payloads = TablePayloads(batch, ["x"], "", ("t", 10))
    assert payloads.labels() == [None, None]
    with pytest.raises(DataError, match="t, row 11, column x"):
        list(payloads)
