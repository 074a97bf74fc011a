import json
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import UnknownItemError
from index.items import ITEMS, MAX_ID, ORDER, ItemTable, ItemWriter, read_items
from training.errors import ArtifactError, DataError

IDS = st.text(min_size=1, max_size=MAX_ID).filter(str.isprintable)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def written(folder: Path, *batches: list[str], payloads: list[dict[str, Any]] | None = None) -> ItemTable:
    writer = ItemWriter(folder, "made")
    for ids in batches:
        writer.write(ids, payloads if payloads is not None else [{"id": name} for name in ids])
    writer.close()
    return read_items(folder)


@given(st.lists(st.lists(IDS, max_size=6), min_size=1, max_size=4), st.lists(IDS, max_size=5))
def test_an_id_finds_its_position_and_another_finds_none(batches: list[list[str]], others: list[str]) -> None:
    seen: set[str] = set()
    unique = [[i for i in ids if not (i in seen or seen.add(i))] for ids in batches]  # type: ignore[func-returns-value]
    order = [name for ids in unique for name in ids]
    with TemporaryDirectory() as folder:
        items = written(Path(folder), *unique)
    assert len(items) == len(order)
    assert [items.position(name) for name in order] == list(range(len(order)))
    assert [items.id_at(i) for i in range(len(order))] == order
    for name in set(others) - seen:
        with pytest.raises(UnknownItemError):
            items.position(name)


@pytest.mark.parametrize(
    "name", ["é", "e\N{COMBINING ACUTE ACCENT}", "項目", "\N{GRINNING FACE}", "a b", "../x", "0", "00", "A" * MAX_ID]
)
def test_ids_are_the_users_own_strings(tmp_path: Path, name: str) -> None:
    items = written(tmp_path, ["z", name, "a"])
    assert (items.position(name), items.id_at(1)) == (1, name)


@pytest.mark.parametrize("name", ["", "A" * (MAX_ID + 1), "a\nb", "\t", "\0", "\N{NO-BREAK SPACE}", "\ud800"])
def test_an_id_that_cannot_be_printed_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="1 to 256 printable characters") as caught:
        written(tmp_path, ["good", name])
    assert repr(name[:40]) in caught.value.field


@pytest.mark.parametrize("batches", [[["a", "b", "a"]], [["a", "b"], ["c"], ["b"]], [["項", "a"], ["項"]]])
def test_an_id_given_twice_is_refused_by_name(tmp_path: Path, batches: list[list[str]]) -> None:
    names = [name for ids in batches for name in ids]
    twice = next(name for name in names if names.count(name) > 1)
    with pytest.raises(DataError, match=f"made, id '{twice}': expected ids that differ"):
        written(tmp_path, *batches)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=4))
def test_payloads_come_back_as_they_were(payloads: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        items = written(Path(folder), [str(i) for i in range(len(payloads))], payloads=payloads)
    assert [items.payload_at(i) for i in range(len(payloads))] == payloads
    assert [json.loads(items.payload_json(i)) for i in range(len(payloads))] == payloads


def test_a_payload_value_that_json_has_no_word_for_becomes_its_text(tmp_path: Path) -> None:
    items = written(tmp_path, ["a"], payloads=[{"day": date(2026, 1, 2), "size": np.float32(0.5)}])
    assert items.payload_at(0) == {"day": "2026-01-02", "size": "0.5"}


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": [float("inf")]}, {(1, 2): 3}])
def test_a_payload_that_is_not_json_is_refused(tmp_path: Path, payload: dict[Any, Any]) -> None:
    with pytest.raises(DataError, match="made, payload of 'a': expected JSON values"):
        written(tmp_path, ["a"], payloads=[payload])


def test_many_batches_are_one_table(tmp_path: Path) -> None:
    names = [f"{i * 7919 % 5_000}" for i in range(5_000)]
    items = written(tmp_path, *(names[i : i + 64] for i in range(0, 5_000, 64)))
    assert [items.position(name) for name in names[::97]] == list(range(0, 5_000, 97))
    assert items.payload_at(4_321) == {"id": names[4_321]}


@pytest.mark.parametrize("content", [b"", b"no table"])
@pytest.mark.parametrize("name", [ITEMS, ORDER])
def test_files_that_are_no_items_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    written(tmp_path, ["a", "b"])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=ITEMS):
        read_items(tmp_path)
