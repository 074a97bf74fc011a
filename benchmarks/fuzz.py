"""Does any body break the decoders? A million damaged bodies, in a child process with little spare memory.

ours    `decode_npy`, `decode_embed` and `decode_search`, of an encoder of pictures, of a table and of plain rows; a
        valid body has bits flipped, is cut, is spliced with another body, its header edited, its numbers replaced

A case passes if it is decoded to finite float32 rows of the right width, no more than a call may have, or if it is
refused by one of the documented errors. Any other exception, and the end of the child, is a crash. The child may map
512 MB more than it had at the start (RLIMIT_AS), so a header that claims a terabyte does not get it. Each case is
drawn from its number alone: `--first N --cases 1` is case N again.
"""

import argparse
import io
import mmap
import multiprocessing
import resource
import struct
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson

from benchmarks.memory import own_bytes
from benchmarks.report import Bar, Row, report, row
from lookalike.service.parsing.columns import TableInputs
from lookalike.service.parsing.decoding import decode_embed, decode_search
from lookalike.service.parsing.npy_bodies import decode_npy
from lookalike.service.parsing.rows import RequestLimits
from lookalike.training.errors import LookalikeError
from lookalike.training.tables.columns import Column

__all__ = ["Case", "draw", "main", "verdict"]

CASES = 1_000_000
SPARE = 512 << 20
MOST_ROWS, MOST_HITS = 64, 2_000
SHOWN = 5
_TABLE = TableInputs(
    (Column("weight", "numeric"), Column("good", "boolean"), Column("colour", "categorical", ("red", "green")))
)
BOUNDS = (
    RequestLimits((4, 4), 3, MOST_ROWS, 100, MOST_HITS),
    RequestLimits((3,), 2, MOST_ROWS, 100, MOST_HITS, _TABLE),
    RequestLimits((12,), 4, MOST_ROWS, 100, MOST_HITS),
)
_DTYPES = ("<f4", "<f8", ">f4", "<f2", "<i8", "|u1", "|b1", "<c8", "|S4", "<U3", "|O", "<M8[s]")
_NUMBERS = (
    *(b"0", b"-1", b"1e400", b"-1e-400", b"9" * 40, b"NaN", b"Infinity", b"null", b"true", b'"red"', b"[]", b"{}"),
    *(b"1.", b"01", b"+1", b"0x1", b"1" * 400, b"18446744073709551616", b'"\\ud800"', b"\xff"),
)
_WORDS = (
    *(b'"inputs"', b'"embeddings"', b'"ids"', b'"limit"', b'"filter"', b'"with_payload"', b'"encoding_format"'),
    *(b"[", b"]", b"{", b"}", b",", b":", b"[" * 1_000, b'{"and":[' * 500, b"\x00", b"\xef\xbb\xbf"),
)
_SIZES = (b"0", b"-1", b"1", b"4096", b"4294967296", b"9223372036854775807", b"9" * 30, b"True", b"1.5", b"'a'", b"()")
_HEADERS = (b"'descr'", b"'fortran_order': True", b"'shape'", b"(1,) * 9", b"lambda: 0", b"(" * 200, b"{", b"'|O'")

Decode = Callable[[bytes, RequestLimits], object]
Case = tuple[str, bytes, RequestLimits]


def read_inputs(body: bytes, limits: RequestLimits) -> object:
    return decode_npy(body, "inputs", limits)


def read_embeddings(body: bytes, limits: RequestLimits) -> object:
    return decode_npy(body, "embeddings", limits)


def read_search(body: bytes, limits: RequestLimits) -> object:
    return decode_search(body, limits)


DECODERS: dict[str, Decode] = {
    "npy inputs": read_inputs,
    "npy embeddings": read_embeddings,
    "JSON embed": decode_embed,
    "JSON search": read_search,
}


def draw(number: int) -> Case:
    """Draw the case of this number: a decoder's name, a body, and the limits of a call."""
    random = Random(number)
    name, limits = random.choice(list(DECODERS)), random.choice(BOUNDS)
    body = _valid_npy(name, limits, random) if name.startswith("npy") else _valid_json(name, limits, random)
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 4))):
        body = random.choice(_MUTATIONS)(body, random)
    return name, body, limits


def verdict(case: Case) -> str:
    """Return `decoded` or `refused`, or what is wrong with rows that should have been refused.

    Raises the decoder's undocumented exceptions.
    """
    name, body, limits = case
    try:
        decoded = DECODERS[name](body, limits)
    except LookalikeError as error:
        return "refused" if error.expected and error.field else f"an error that tells nothing: {error!r}"
    rows: Any = getattr(decoded, "rows", decoded)
    if getattr(decoded, "kind", "") == "ids":
        return "decoded"
    width = limits.width("embeddings" if "embeddings" in (name[4:], getattr(decoded, "kind", "")) else "inputs")
    right = rows.dtype == np.float32 and rows.ndim == 2 and rows.shape[1] == width and 0 < len(rows) <= MOST_ROWS
    finite = ~np.isinf(rows) if limits.table else np.isfinite(rows)
    return "decoded" if right and rows.flags.c_contiguous and finite.all() else f"{rows.dtype} {rows.shape} passed"


def _valid_npy(name: str, limits: RequestLimits, random: Random) -> bytes:
    count = random.choice((0, 1, 2, 5, 5, MOST_ROWS, MOST_ROWS + 1))
    shape = (count, limits.width(name.removeprefix("npy "))) if random.random() < 0.7 else (count, *limits.input_shape)
    values = np.full(shape, random.choice((0, 1, 0.5)), random.choice(("<f4", "<f8", "<i8", "|u1")))
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asfortranarray(values) if random.random() < 0.2 else values)
    return stream.getvalue()


def _valid_json(name: str, limits: RequestLimits, random: Random) -> bytes:
    kind = "inputs" if name == "JSON embed" else random.choice(("inputs", "embeddings", "ids"))
    count = random.choice((1, 2, 5, 5, MOST_ROWS + 1))
    row: Any = [random.choice((0, 1, 1.5, -2e3))] * limits.width(kind)
    if limits.table and kind == "inputs":
        row = random.choice(([1.5, True, "red"], {"weight": None, "good": 1, "colour": "green"}, [1, 0, None]))
    fields: dict[str, Any] = {kind: ["0", "é\n"] if kind == "ids" else [row] * count}
    if name == "JSON embed" and random.random() < 0.5:
        fields["encoding_format"] = random.choice(("float", "base64"))
    elif name != "JSON embed":
        extra = {
            "limit": 10,
            "with_payload": False,
            "filter": {"and": [{"field": "a", "equal": 1}, {"not": {"field": "b", "exists": True}}]},
        }
        fields |= {key: value for key, value in extra.items() if random.random() < 0.5}
    return orjson.dumps(fields)


def _flip(body: bytes, random: Random) -> bytes:
    changed = bytearray(body)
    for _ in range(random.randint(1, 8) if body else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flip_early(body: bytes, random: Random) -> bytes:
    return _flip(body[:128], random) + body[128:]


def _cut(body: bytes, random: Random) -> bytes:
    first, last = sorted((random.randint(0, len(body)), random.randint(0, len(body))))
    return random.choice((body[:last], body[first:], body[:first] + body[last:]))


def _splice(body: bytes, random: Random) -> bytes:
    """The beginning of this body, and the end of another body."""
    other = draw(random.randrange(1 << 62))[1] if random.random() < 0.5 else body
    return body[: random.randint(0, len(body))] + other[random.randint(0, len(other)) :]


def _replace(words: tuple[bytes, ...], old: bytes) -> Callable[[bytes, Random], bytes]:
    """A mutation that puts a word in place of a match of `old`, or at a random place."""

    def mutate(body: bytes, random: Random) -> bytes:
        at = body.find(old, random.randint(0, len(body)))
        at = at if at >= 0 else random.randint(0, len(body))
        return body[:at] + random.choice(words) + body[at + random.randint(0, 3) :]

    return mutate


def _lengths(body: bytes, random: Random) -> bytes:
    """A header with a different magic, format version and header length."""
    if len(body) < 12:
        return body
    return (
        body[:6] + struct.pack("<BBH", random.randint(0, 4), random.randint(0, 2), random.getrandbits(16)) + body[10:]
    )


def _dtype(body: bytes, random: Random) -> bytes:
    return body.replace(random.choice((b"<f4", b"<f8", b"<i8", b"|u1")), random.choice(_DTYPES).encode(), 1)


_MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flip, _flip_early, _cut, _splice, _lengths, _dtype),
    *(_replace(_NUMBERS, b"1"), _replace(_WORDS, b'"'), _replace(_SIZES, b"("), _replace(_HEADERS, b"'")),
)


def run_cases(first: int, cases: int, at: Path, results: "SimpleQueue[dict[str, Any]]") -> None:
    """The job of the child process; the file contains the number of the current case, even if the child dies."""
    now = own_bytes("VmSize") + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (now, now))
    counts: Counter[str] = Counter()
    crashes: list[str] = []
    before, began = own_bytes("VmRSS"), time.perf_counter()
    with at.open("r+b") as file, mmap.mmap(file.fileno(), 8) as place:
        for number in range(first, first + cases):
            place[:] = struct.pack("<q", number)
            try:
                result = verdict(draw(number))
            except BaseException as error:
                result = f"crash: {type(error).__name__}"
                crashes.append(f"case {number}: {traceback.format_exc(limit=-3)}")
            counts[result] += 1
    seconds = time.perf_counter() - began
    grown = (own_bytes("VmHWM") - before) / 1e6
    results.put({"counts": dict(counts), "crashes": crashes[:SHOWN], "seconds": seconds, "grown": grown})


def fuzz(first: int, cases: int) -> tuple[list[Row], str]:
    """The rows of the report, and the failures."""
    context = multiprocessing.get_context("spawn")
    results: SimpleQueue[dict[str, Any]] = context.SimpleQueue()
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(8))
        file.flush()
        child = context.Process(target=run_cases, args=(first, cases, Path(file.name), results))
        child.start()
        while child.is_alive() and results.empty():
            time.sleep(0.1)
        found = None if results.empty() else results.get()
        child.join()
        if found is None:
            number = struct.unpack("<q", Path(file.name).read_bytes())[0]
            note = f"the child ended with {child.exitcode} at case {number}"
            return [row("crashes", "cases", ours=1, bar=Bar("ours", "<=", 0))], note
    counts = found["counts"]
    wrong = {name: count for name, count in counts.items() if name not in {"decoded", "refused"}}
    crashed, none = sum(count for name, count in wrong.items() if name.startswith("crash")), Bar("ours", "<=", 0)
    rows = [
        row("cases", "", ours=sum(counts.values())),
        row("decoded", "cases", ours=counts.get("decoded", 0)),
        row("refused by a documented error", "cases", ours=counts.get("refused", 0)),
        row("crashes", "cases", ours=crashed, bar=none),
        row("decoded wrongly, or refused without a word", "cases", ours=sum(wrong.values()) - crashed, bar=none),
        row("memory at its peak, above that before the first", "MB", ours=found["grown"], bar=Bar("ours", "<=", 64)),
        row("cases a second", "", ours=cases / found["seconds"]),
    ]
    return rows, "\n".join([*(f"{count} x {name}" for name, count in wrong.items()), *found["crashes"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    options = parser.parse_args()
    report("fuzz", *fuzz(options.first, options.cases))


if __name__ == "__main__":
    main()
