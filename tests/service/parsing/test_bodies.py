import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.types import Message

from lookalike.service.errors import FullError, MalformedError, SlowBodyError, TooLargeError
from lookalike.service.parsing.bodies import Budget, Share, decode_body, read_body
from lookalike.service.parsing.rows import RequestLimits

pytestmark = pytest.mark.anyio


def request(parts: list[bytes | None], length: str | None = None) -> Request:
    """A request that sends `parts` and then ends; None disconnects, and without parts it waits for ever."""

    async def messages() -> AsyncIterator[Message]:
        for number, part in enumerate(parts, 1):
            if part is None:
                yield {"type": "http.disconnect"}
            else:
                yield {"type": "http.request", "body": part, "more_body": number < len(parts)}
        await asyncio.Event().wait()

    stream = messages()
    headers = [] if length is None else [(b"content-length", length.encode("latin-1"))]
    return Request({"type": "http", "method": "POST", "headers": headers}, stream.__anext__)


def room(most: int = 1_000) -> Share:
    return Share(Budget(most))


@pytest.mark.parametrize(
    ("parts", "expected"), [([b""], b""), ([b"abc"], b"abc"), ([b"ab", b"", b"cde"], b"abcde"), ([b"a"] * 5, b"aaaaa")]
)
async def test_reads_a_body_within_its_limits(parts: list[bytes | None], expected: bytes) -> None:
    assert await read_body(request(parts), 5, 1.0, room()) == expected
    assert await read_body(request(parts, str(len(expected))), 5, 1.0, room()) == expected


@pytest.mark.parametrize(
    ("parts", "length"),
    [
        ([b"abcdef"], None),
        ([b"abc", b"def"], None),
        ([], "6"),
        ([b"abcdef"], "1"),
        ([], str(10**18)),
    ],
    ids=["at once", "in parts", "by its own word", "against its own word", "huge"],
)
async def test_refuses_a_larger_body(parts: list[bytes | None], length: str | None) -> None:
    with pytest.raises(TooLargeError, match="at most 5 bytes"):
        await read_body(request(parts, length), 5, 1.0, room())


@pytest.mark.parametrize("length", ["", "-1", "1.5", "x", "1 2", "²", "9" * 5_000])
async def test_refuses_a_content_length_that_is_not_a_number(length: str) -> None:
    with pytest.raises(MalformedError, match="Content-Length"):
        await read_body(request([b"a"], length), 5, 1.0, room())


async def test_gives_up_a_body_that_does_not_arrive() -> None:
    with pytest.raises(SlowBodyError, match=r"within 0\.01 s"):
        await read_body(request([], "3"), 5, 0.01, room())


async def test_a_client_that_disconnects_is_a_malformed_request() -> None:
    with pytest.raises(MalformedError, match="left"):
        await read_body(request([None], "3"), 5, 1.0, room())


async def test_all_bodies_share_one_budget() -> None:
    """Of 10 bytes, 6 are held: 5 more do not fit, 4 do; after the 6 are freed, 6 fit again."""
    budget = Budget(10)
    first, second, third = Share(budget), Share(budget), Share(budget)
    assert await read_body(request([b"abc", b"def"]), 9, 1.0, first) == b"abcdef"
    assert budget.held == 6
    with pytest.raises(FullError, match="at most 10 bytes of all requests together, found 6 and 5 more"):
        await read_body(request([], "5"), 9, 1.0, second)
    with pytest.raises(FullError, match="found 9 and 2 more"):
        await read_body(request([b"abc", b"de"]), 9, 1.0, second)
    second.give_back()
    assert await read_body(request([b"abcd"], "4"), 9, 1.0, second) == b"abcd"
    first.give_back()
    first.give_back()
    assert await read_body(request([b"ghijkl"]), 9, 1.0, third) == b"ghijkl"
    assert budget.held == 10


async def test_announced_bytes_take_no_budget() -> None:
    budget = Budget(10)
    slow = asyncio.create_task(read_body(request([], "9"), 9, 30.0, Share(budget)))
    await asyncio.sleep(0)
    assert await read_body(request([b"abcdefgh"]), 9, 1.0, Share(budget)) == b"abcdefgh"
    slow.cancel()


@pytest.mark.anyio
async def test_a_large_body_is_decoded_in_a_thread() -> None:
    here, limits = threading.get_ident(), RequestLimits((2,), 2, 5, 5, 5)

    def decode(body: bytes, limits: RequestLimits) -> int:
        return threading.get_ident()

    assert await decode_body(decode, bytes(limits.large_bytes), limits) == here
    assert await decode_body(decode, memoryview(bytes(limits.large_bytes + 1)), limits) != here
