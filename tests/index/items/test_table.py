import json
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.index.errors import QueryError, UnknownItemError
from lookalike.index.items import table as module
from lookalike.index.items.filters import read_filter
from lookalike.index.items.ids import MAX_ID
from lookalike.index.items.table import ITEMS, ORDER, ItemTable, ItemWriter, read_items
from lookalike.training.errors import ArtifactError, DataError

IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=MAX_ID)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def write_table(folder: Path, *batches: list[str], payloads: list[dict[str, Any]] | None = None) -> ItemTable:
    writer = ItemWriter(folder, "made")
    for ids in batches:
        writer.write(ids, payloads if payloads is not None else [{"id": name} for name in ids])
    writer.close()
    return read_items(folder)


@given(st.lists(st.lists(IDS, max_size=6), min_size=1, max_size=4), st.lists(IDS, max_size=5))
def test_finds_the_position_of_an_id_and_refuses_unknown_ids(batches: list[list[str]], others: list[str]) -> None:
    seen: set[str] = set()
    unique = [[i for i in ids if not (i in seen or seen.add(i))] for ids in batches]  # type: ignore[func-returns-value]
    order = [name for ids in unique for name in ids]
    with TemporaryDirectory() as folder:
        items = write_table(Path(folder), *unique)
    assert len(items) == len(order)
    assert [items.position(name) for name in order] == list(range(len(order)))
    assert [items.id_at(i) for i in range(len(order))] == order
    assert items.ids_at(range(len(order))[::-1]) == order[::-1]
    for name in set(others) - seen:
        with pytest.raises(UnknownItemError):
            items.position(name)


@pytest.mark.parametrize(
    "name", ["é", "e\N{COMBINING ACUTE ACCENT}", "項目", "\N{GRINNING FACE}", "a b", "../x", "0", "00", "A" * MAX_ID]
)
def test_keeps_ids_unchanged(tmp_path: Path, name: str) -> None:
    items = write_table(tmp_path, ["z", name, "a"])
    assert (items.position(name), items.id_at(1)) == (1, name)


def test_refuses_an_invalid_id(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found U\+000A at position 1") as caught:
        write_table(tmp_path, ["good", "a\nb", "", "good too"])
    assert caught.value.field == "made, id 'a\\nb'"  # the first


@pytest.mark.parametrize("batches", [[["a", "b", "a"]], [["a", "b"], ["c"], ["b"]], [["項", "a"], ["項"]]])
def test_names_a_duplicate_id(tmp_path: Path, batches: list[list[str]]) -> None:
    names = [name for ids in batches for name in ids]
    duplicate = next(name for name in names if names.count(name) > 1)
    with pytest.raises(DataError, match=f"made, id '{duplicate}': expected unique ids"):
        write_table(tmp_path, *batches)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=4))
def test_returns_payloads_unchanged(payloads: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        items = write_table(Path(folder), [str(i) for i in range(len(payloads))], payloads=payloads)
    assert [items.payload_at(i) for i in range(len(payloads))] == payloads
    assert [json.loads(items.payload_json(i)) for i in range(len(payloads))] == payloads
    texts = items.payloads_json(range(len(payloads)))
    assert list(map(json.loads, texts)) == payloads
    assert [items.payload_bytes(i) for i in range(len(payloads))] == [len(text.encode()) for text in texts]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=3))
def test_mixes_items_with_and_without_a_payload(batches: list[list[bool]]) -> None:
    with TemporaryDirectory() as folder:
        writer, names = ItemWriter(Path(folder), "made"), iter(map(str, range(100)))
        for batch in batches:
            writer.write([next(names) for _ in batch], [{"x": 1} if full else {} for full in batch])
        writer.close()
        items = read_items(Path(folder))
        full = [each for batch in batches for each in batch]
        assert [items.payload_json(i) for i in range(len(full))] == ['{"x":1}' if each else "{}" for each in full]
        if any(full):
            assert items.allowed(read_filter({"field": "x", "equal": 1})).tolist() == full


def test_converts_a_value_that_json_cannot_represent_to_text(tmp_path: Path) -> None:
    items = write_table(tmp_path, ["a"], payloads=[{"day": date(2026, 1, 2), "size": np.float32(0.5)}])
    assert items.payload_at(0) == {"day": "2026-01-02", "size": "0.5"}


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64 - 1, 2**64, 10**300])
def test_names_the_path_of_an_integer_out_of_bounds(tmp_path: Path, value: int) -> None:
    with pytest.raises(DataError, match=r"integers from -2\^63 to 2\^63 - 1") as caught:
        write_table(tmp_path, ["a", "b"], payloads=[{"n": 2**63 - 1, "text": str(value)}, {"n": {"deep": [0, value]}}])
    assert caught.value.field == "made, payload of 'b'.n.deep[1]"


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": [float("inf")]}, {(1, 2): 3}])
def test_refuses_a_payload_that_is_not_json(tmp_path: Path, payload: dict[Any, Any]) -> None:
    with pytest.raises(DataError, match="made, payload of 'a': expected JSON values"):
        write_table(tmp_path, ["a"], payloads=[payload])


def test_many_batches_make_one_table(tmp_path: Path) -> None:
    names = [f"{i * 7919 % 5_000}" for i in range(5_000)]
    items = write_table(tmp_path, *(names[i : i + 64] for i in range(0, 5_000, 64)))
    assert [items.position(name) for name in names[::97]] == list(range(0, 5_000, 97))
    assert items.payload_at(4_321) == {"id": names[4_321]}


@given(st.lists(st.integers(0, 5), max_size=6), st.data())
def test_moving_items_to_the_end_keeps_the_order_of_both_groups(sizes: list[int], data: st.DataObject) -> None:
    count = sum(sizes)
    last = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    names = [f"{i * 7 % 101}" for i in range(count)]
    with TemporaryDirectory() as folder:
        writer, start = ItemWriter(Path(folder), "made"), 0
        for size in sizes:
            part = names[start : start + size]
            writer.write(part, [{"of": name} for name in part])
            start += size
        writer.close(last=last)
        items = read_items(Path(folder))
        expected = [names[i] for i in [*np.flatnonzero(~last), *np.flatnonzero(last)]]
        assert [items.id_at(i) for i in range(len(items))] == expected
        assert [items.payload_at(i)["of"] for i in range(len(items))] == expected
        assert [items.position(name) for name in expected] == list(range(count))
        for name in expected[:2]:
            mask = items.allowed(read_filter({"field": "of", "equal": name}))
            assert np.flatnonzero(mask).tolist() == [expected.index(name)]


def test_filters_use_columns_of_fields_from_all_batches(tmp_path: Path) -> None:
    """Each batch has other fields than the batches before it."""
    writer = ItemWriter(tmp_path, "made")
    writer.write(["a", "b"], [{"x": 1}, {"x": "1"}])
    writer.write(["c"], [{"y": [2, 3]}])
    writer.write(["d", "e"], [{"x": 1.0, "y": 3}, {}])
    writer.close()
    items = read_items(tmp_path)
    cases = [
        ({"field": "x", "equal": 1}, [True, False, False, True, False]),
        ({"field": "x", "equal": "1"}, [False, True, False, False, False]),
        ({"field": "y", "equal": 3}, [False, False, True, True, False]),
        ({"field": "y", "exists": False}, [True, True, False, False, True]),
    ]
    assert [items.allowed(read_filter(source)).tolist() for source, _ in cases] == [expected for _, expected in cases]
    names = pa.ipc.open_file(pa.memory_map(str(tmp_path / ITEMS))).schema.names
    assert names[:2] == ["id", "payload"]
    assert {"integer:x", "number:x", "text:x", "integers:y", "integer:y"} <= set(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ITEMS, ORDER]


def test_refuses_a_filter_if_no_item_has_a_field(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"filter\.field: expected no filter, because no item has a field"):
        write_table(tmp_path, ["a", "b"], payloads=[{}, {}]).allowed(read_filter({"field": "label", "exists": True}))


def test_reads_the_texts_of_a_sliced_table() -> None:
    """Slices of an Arrow array share its buffers and have an offset."""
    whole = pa.table({"id": ["a", "é", "項目", "d", "e"], "payload": ["{}", '{"x":1}', "{}", '{"é":2}', "{}"]})
    both = pa.concat_tables([whole.slice(1, 2), whole.slice(3, 0), whole.slice(3, 1)])
    items = ItemTable(both, np.array([2, 0, 1], np.uint32))
    assert [items.id_at(i) for i in range(len(items))] == ["é", "項目", "d"]
    assert [items.payload_json(i) for i in range(len(items))] == ['{"x":1}', "{}", '{"é":2}']
    with pytest.raises(IndexError):
        items.id_at(3)


@pytest.mark.parametrize("ids", [pa.array([1, 2]), pa.array(["a", None]), pa.array([b"a", b"b"])])
def test_refuses_a_table_whose_ids_are_not_texts(tmp_path: Path, ids: pa.Array) -> None:
    table = pa.table({"id": ids, "payload": ["{}", "{}"]})
    with pa.ipc.new_file(str(tmp_path / ITEMS), table.schema) as writer:
        writer.write_table(table)
    np.save(tmp_path / ORDER, np.array([0, 1], np.uint32))
    with pytest.raises(ArtifactError, match="expected a table of items, found a column of"):
        read_items(tmp_path)


def test_the_order_has_four_bytes_per_item(tmp_path: Path) -> None:
    write_table(tmp_path, ["b", "c", "a"])
    order = np.load(tmp_path / ORDER, allow_pickle=False)
    assert (order.dtype, order.tolist()) == (np.uint32, [2, 0, 1])


def test_positions_follow_the_order_of_the_names(tmp_path: Path) -> None:
    items = write_table(tmp_path, ["b", "c", "a"])
    assert items.positions(["a", "b", "a"]).tolist() == [2, 0, 2]
    assert items.positions([]).dtype == np.int64
    with pytest.raises(UnknownItemError, match="'d'"):
        items.positions(["a", "d"])


@pytest.mark.parametrize("content", [b"", b"no table"])
@pytest.mark.parametrize("name", [ITEMS, ORDER])
def test_refuses_files_that_are_not_items(tmp_path: Path, name: str, content: bytes) -> None:
    write_table(tmp_path, ["a", "b"])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        read_items(tmp_path)


@pytest.mark.parametrize("share", [1, 2, 7, 5_000])
def test_sorts_ids_part_by_part_into_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int) -> None:
    monkeypatch.setattr(module, "SORTED", share)
    names = [f"{'é項a'[i % 3]}{i * 7919 % 997}" for i in range(300)]
    write_table(tmp_path, *(names[i : i + 64] for i in range(0, 300, 64)))
    order = np.load(tmp_path / ORDER, allow_pickle=False)
    assert [names[place] for place in order] == sorted(names)


@pytest.mark.parametrize("duplicate", range(0, 60, 7))
def test_finds_a_duplicate_id_in_any_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duplicate: int) -> None:
    monkeypatch.setattr(module, "SORTED", 8)
    names = [f"{i:02}" for i in range(60)]
    with pytest.raises(DataError, match=f"made, id '{duplicate:02}': expected unique ids"):
        write_table(tmp_path, names[::-1], [names[duplicate]])
