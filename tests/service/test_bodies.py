import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.types import Message

from service.bodies import read_body
from service.errors import MalformedError, SlowBodyError, TooLargeError

pytestmark = pytest.mark.anyio


def request(parts: list[bytes | None], length: str | None = None) -> Request:
    """A request that sends `parts`, then says that they are all; None leaves, and no parts wait for ever."""

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


@pytest.mark.parametrize(
    ("parts", "expected"), [([b""], b""), ([b"abc"], b"abc"), ([b"ab", b"", b"cde"], b"abcde"), ([b"a"] * 5, b"aaaaa")]
)
async def test_a_body_within_its_bounds_is_read_whole(parts: list[bytes | None], expected: bytes) -> None:
    assert await read_body(request(parts), 5, 1.0) == expected
    assert await read_body(request(parts, str(len(expected))), 5, 1.0) == expected


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
async def test_a_larger_body_is_refused(parts: list[bytes | None], length: str | None) -> None:
    with pytest.raises(TooLargeError, match="at most 5 bytes"):
        await read_body(request(parts, length), 5, 1.0)


@pytest.mark.parametrize("length", ["", "-1", "1.5", "x", "1 2", "²", "9" * 5_000])
async def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(MalformedError, match="Content-Length"):
        await read_body(request([b"a"], length), 5, 1.0)


async def test_a_body_that_does_not_come_is_given_up() -> None:
    with pytest.raises(SlowBodyError, match=r"within 0\.01 s"):
        await read_body(request([], "3"), 5, 0.01)


async def test_a_client_that_leaves_is_no_failure_of_ours() -> None:
    with pytest.raises(MalformedError, match="left"):
        await read_body(request([None], "3"), 5, 1.0)
