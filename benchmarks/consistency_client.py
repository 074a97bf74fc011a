"""One client of `benchmarks.consistency`: a process that changes and reads shared items, and records the answers.

It imports nothing heavy, because eight clients share the machine with the service. It never retries a call that got
no answer.
"""

import argparse
import http.client
import json
import random
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

__all__ = ["GROUPS", "IDS", "TAGS", "WIDTH", "Call", "Calls", "Client", "Effect", "main", "name_of", "vector_of"]

IDS, GROUPS, WIDTH = 50, 10, 16
TAGS = ("red", "green", "blue")
CONNECTIONS = 3
"""The connections of each client: several, so that a client talks to several workers."""
PATIENCE = 4.0
"""Seconds to wait for an answer."""
PAUSE = 0.02
"""Seconds to wait after a connection is refused."""
MIX = {
    "put": 30, "delete": 10, "delete by filter": 6, "get": 26, "search by id": 6, "search": 12, "search by filter": 6,
    "list": 4,
}  # fmt: skip
JSON = {"Content-Type": "application/json"}

Effect = tuple[int, str, str]
"""The number of an item, and the kind and text of the operation on it (benchmarks.linearizable)."""
Answer = dict[str, Any]
Reader = Callable[[int, Answer], list[Effect]]
"""A function that returns the effects that an answer shows, from its status and content."""


@dataclass(frozen=True)
class Call:
    """A request, the effects that it may have if no answer comes, and how to read its effects from an answer."""

    name: str
    method: str
    path: str
    body: Answer | None
    lost: list[Effect]
    read: Reader


def name_of(place: int) -> str:
    return f"shared {place}"


def vector_of(name: str) -> list[float]:
    """An input that is far from all others."""
    chance = random.Random(name)
    return [round(chance.gauss(0, 1), 3) for _ in range(WIDTH)]


class Calls:
    """Random calls of one client; no two values are the same."""

    def __init__(self, number: int, seed: int) -> None:
        self._number = number
        self._chance = random.Random(f"{seed} {number}")
        self._made = 0
        self._inputs = [vector_of(name_of(place)) for place in range(IDS)]

    def next(self) -> Call:
        (name,) = self._chance.choices(list(MIX), list(MIX.values()))
        made: Call = getattr(self, f"_{name.replace(' ', '_')}")()
        return made

    def _place(self) -> int:
        return self._chance.randrange(IDS)

    def _put(self) -> Call:
        """Add or replace one to four items."""
        places = self._chance.sample(range(IDS), self._chance.choice([1, 1, 1, 2, 4]))
        items, effects = [], list[Effect]()
        for place in places:
            tag = self._chance.choice(TAGS)
            value = f"{self._number}.{self._made}/{tag}"
            self._made += 1
            payload = {"value": value, "tag": tag, "group": place % GROUPS}
            items.append({"id": name_of(place), "input": self._inputs[place], "payload": payload})
            effects.append((place, "write", value))
        return Call("put", "PUT", "/items", {"items": items}, effects, _done(effects))

    def _delete(self) -> Call:
        place = self._place()
        effect = (place, "delete", "")

        def read(status: int, answer: Answer) -> list[Effect]:
            return [(place, "read", "")] if status == 404 else [effect]

        return Call("delete", "DELETE", f"/items/{quote(name_of(place))}", None, [effect], read)

    def _delete_by_filter(self) -> Call:
        """Delete the items of a group that have a tag."""
        group, tag = self._chance.randrange(GROUPS), self._chance.choice(TAGS)
        effects: list[Effect] = [(place, "delete tagged", tag) for place in range(group, IDS, GROUPS)]
        path = f"/items?filter={quote(json.dumps(_both(group, tag)))}"
        return Call("delete by filter", "DELETE", path, None, effects, _done(effects))

    def _get(self) -> Call:
        place = self._place()

        def read(status: int, answer: Answer) -> list[Effect]:
            return [(place, "read", "" if status == 404 else answer["payload"]["value"])]

        return Call("get", "GET", f"/items/{quote(name_of(place))}", None, [], read)

    def _list(self) -> Call:
        """List a group; the list fits in one page."""
        group = self._chance.randrange(GROUPS)
        path = f"/items?filter={quote(json.dumps({'field': 'group', 'equal': group}))}"

        def read(status: int, answer: Answer) -> list[Effect]:
            found = {item["id"]: item["payload"]["value"] for item in answer["items"]}
            return [(place, "read", found.get(name_of(place), "")) for place in range(group, IDS, GROUPS)]

        return Call("list", "GET", path, None, [], read)

    def _search(self) -> Call:
        """Search with an item's own input: no other item is as near."""
        place = self._place()

        def read(status: int, answer: Answer) -> list[Effect]:
            return _found(answer) if _hits(answer) == [name_of(place)] else [(place, "read", ""), *_found(answer)]

        body = {"inputs": [self._inputs[place]], "limit": 1}
        return Call("search", "POST", "/search", body, [], read)

    def _search_by_filter(self) -> Call:
        place, tag = self._place(), self._chance.choice(TAGS)

        def read(status: int, answer: Answer) -> list[Effect]:
            other: list[Effect] = [] if _hits(answer) == [name_of(place)] else [(place, "read other", tag)]
            return [*other, *_found(answer)]

        body = {"inputs": [self._inputs[place]], "limit": 1, "filter": _both(place % GROUPS, tag)}
        return Call("search by filter", "POST", "/search", body, [], read)

    def _search_by_id(self) -> Call:
        """Search by an item's id. An item never finds itself, but a 200 shows that the item exists."""
        place = self._place()

        def read(status: int, answer: Answer) -> list[Effect]:
            return [(place, "read", "")] if status == 404 else [(place, "read any", ""), *_found(answer)]

        return Call("search by id", "POST", "/search", {"ids": [name_of(place)], "limit": 1}, [], read)


def _both(group: int, tag: str) -> Answer:
    return {"and": [{"field": "group", "equal": group}, {"field": "tag", "equal": tag}]}


def _done(effects: list[Effect]) -> Reader:
    """The effect of a change that always applies."""

    def read(status: int, answer: Answer) -> list[Effect]:
        if status != 200:
            raise ValueError(status)
        return effects

    return read


def _hits(answer: Answer) -> list[str]:
    return [hit["id"] for hit in answer["results"][0]["hits"]]


def _found(answer: Answer) -> list[Effect]:
    """The effects of a list of hits: each hit that is a shared item."""
    hits = [hit for hit in answer["results"][0]["hits"] if hit["id"].startswith("shared ")]
    return [(int(hit["id"].removeprefix("shared ")), "read", hit["payload"]["value"]) for hit in hits]


class Client:
    """Sends calls over some connections, and writes one line of JSON for each call that it sent."""

    def __init__(self, port: int, number: int, seed: int, out: TextIO) -> None:
        self._out = out
        self._port = port
        self._calls = Calls(number, seed)
        self._chance = random.Random(f"connections {seed} {number}")
        self._connections: list[http.client.HTTPConnection | None] = [None] * CONNECTIONS

    def run(self, operations: int, until: float) -> None:
        """Send calls until the count is reached, or until the options time of the monotonic clock."""
        sent = 0
        while sent < operations and time.monotonic() < until:
            place = self._chance.randrange(CONNECTIONS)
            try:
                connection = self._connections[place] = self._connected(self._connections[place])
            except OSError:
                time.sleep(PAUSE)
                continue
            if not self._send(connection, self._calls.next()):
                connection.close()
                self._connections[place] = None
            sent += 1

    def _connected(self, connection: http.client.HTTPConnection | None) -> http.client.HTTPConnection:
        """Return a connection that, as far as the client knows, is open."""
        if connection and connection.sock and not select.select([connection.sock], [], [], 0)[0]:
            return connection
        if connection:
            connection.close()
        fresh = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        fresh.connect()
        return fresh

    def _send(self, connection: http.client.HTTPConnection, call: Call) -> bool:
        """Send a call and record it; returns whether the connection can be used again."""
        body = None if call.body is None else json.dumps(call.body)
        called = time.monotonic_ns()
        try:
            connection.request(call.method, call.path, body, JSON if body else {})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._record(call, called, None, call.lost, f"{call.name}: {type(error).__name__}")
            return False
        answered, status = time.monotonic_ns(), answer.status
        if status >= 500:
            self._record(call, called, None, call.lost, f"{call.name}: {status}")
        elif status in (200, 404):
            self._read(call, called, answered, status, content)
        else:
            self._record(call, called, answered, [], f"unexpected: {status} {content[:300]!r}")
        return not answer.will_close

    def _read(self, call: Call, called: int, answered: int, status: int, content: bytes) -> None:
        try:
            effects = call.read(status, json.loads(content))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            self._record(call, called, answered, [], f"unexpected: {error!r} in {status} {content[:300]!r}")
            return
        self._record(call, called, answered, effects)

    def _record(self, call: Call, called: int, answered: int | None, effects: list[Effect], note: str = "") -> None:
        self._out.write(json.dumps([call.name, called, answered, effects, note]) + "\n")


def main() -> None:
    """Run one client; `benchmarks.consistency` starts it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, kind in (("port", int), ("number", int), ("seed", int), ("operations", int), ("until", float)):
        parser.add_argument(name, type=kind)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    with options.file.open("w", encoding="utf-8") as out:
        Client(options.port, options.number, options.seed, out).run(options.operations, options.until)


if __name__ == "__main__":
    main()
