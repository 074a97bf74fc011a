"""The clients' calls, answered from a dictionary: correctly, or with a fault that the check must find."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from benchmarks.consistency import ByItem, check, read_history, with_stale_reads
from benchmarks.consistency_client import Call, Calls, name_of, vector_of
from benchmarks.linearizable import Operation

Items = dict[str, dict[str, Any]]


def passes(item: dict[str, Any], test: dict[str, Any]) -> bool:
    if "and" in test:
        return all(passes(item, one) for one in test["and"])
    return bool(item["payload"][test["field"]] == test["equal"])


def hit_of(items: Items, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The item with the input that was sent; for an id, any other item."""
    given = body.get("inputs", [None])[0]
    wanted = [name for name, item in items.items() if item["input"] == given or name not in body.get("ids", [name])]
    return [items[name] for name in wanted if passes(items[name], body.get("filter", {"and": []}))][:1]


def answer(items: Items, call: Call) -> tuple[int, dict[str, Any]]:
    """Apply a call to the items, and return the service's answer."""
    path, query = unquote(urlsplit(call.path).path), parse_qs(urlsplit(call.path).query)
    name = path.removeprefix("/items").removeprefix("/")
    chosen = [one for one, item in items.items() if passes(item, json.loads(query.get("filter", ['{"and": []}'])[0]))]
    body = call.body or {}
    if (name and call.method != "POST" and name not in items) or not set(body.get("ids", [])) <= set(items):
        return 404, {}
    match call.method, name:
        case "PUT", _:
            items.update({item["id"]: item for item in body["items"]})
        case "POST", _:
            return 200, {"results": [{"hits": hit_of(items, body)}]}
        case "GET", "":
            return 200, {"items": [items[one] for one in chosen]}
        case "GET", _:
            return 200, items[name]
        case _:
            for one in [name] if name else chosen:
                del items[one]
    return 200, {}


def history(count: int = 2_000, *, keeps: str = "", misses: str = "") -> ByItem:
    """Call one after the other; calls named `keeps` change nothing, and calls named `misses` return 404."""
    calls, items, by_item = Calls(number=0, seed=0), Items(), ByItem()
    for time in range(count):
        call = calls.next()
        status, content = answer(dict(items) if call.name == keeps else items, call)
        if call.name == misses:
            status, content = 404, {}
        for place, kind, text in call.read(status, content):
            by_item.setdefault(place, []).append(Operation(kind, text, 2 * time, 2 * time + 1))  # type: ignore[arg-type]
    return by_item


def test_finds_no_violation_in_correct_answers() -> None:
    by_item = history()
    assert {one.kind for some in by_item.values() for one in some} == {
        *("write", "read", "read any", "read other", "delete", "delete tagged")
    }
    assert check(by_item) == {}


@pytest.mark.parametrize("name", ["put", "delete", "delete by filter"])
def test_finds_an_acknowledged_change_that_was_not_made(name: str) -> None:
    assert check(history(keeps=name))


@pytest.mark.parametrize("name", ["get", "search by id", "delete"])
def test_finds_an_item_that_a_read_misses(name: str) -> None:
    assert check(history(misses=name))


@pytest.mark.parametrize("name", ["put", "delete by filter", "list", "search"])
def test_refuses_a_404_for_calls_that_name_no_item(name: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        history(misses=name)


def test_finds_a_stale_read_in_each_replaced_item() -> None:
    by_item = history()
    by_item[7] = [Operation("write", "0.0/red", 0, 1)]
    broken = with_stale_reads(by_item)
    assert len(broken) > 40
    assert 7 not in broken
    assert {place: [one.operation for one in some] for place, some in check(broken).items()} == {
        place: operations[-1:] for place, operations in broken.items()
    }


def test_reads_the_records_of_clients(tmp_path: Path) -> None:
    lines = [
        ["put", 1, 5, [[3, "write", "0.0/red"], [4, "write", "0.1/blue"]], ""],
        ["delete", 6, None, [[3, "delete", ""]], "delete: TimeoutError"],
        ["get", 7, 9, [], "unexpected: 418 b''"],
    ]
    file = tmp_path / "client"
    file.write_text("\n".join(map(json.dumps, lines)))
    seen = read_history([file])
    assert (seen.calls, seen.lost, seen.unexpected) == (
        {"put": 1, "delete": 1, "get": 1},
        {"delete: TimeoutError": 1},
        ["unexpected: 418 b''"],
    )
    found = {
        place: [(one.kind, one.text, one.called, one.answered) for one in some] for place, some in seen.by_item.items()
    }
    assert found == {3: [("write", "0.0/red", 1, 5), ("delete", "", 6, None)], 4: [("write", "0.1/blue", 1, 5)]}


def test_inputs_of_items_differ() -> None:
    assert len({tuple(vector_of(name_of(place))) for place in range(50)}) == 50
