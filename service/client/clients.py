"""The two clients: thin drivers of the same conversations, over httpx."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from numpy.typing import NDArray

from lookalike.service.client import exchange, item_exchange
from lookalike.service.client.answers import EmbedResponse, ReadyResponse, SearchResponse
from lookalike.service.client.item_answers import Item, ItemSummary, WriteResponse
from lookalike.service.client.messages import Exchange, Reply, Send
from lookalike.service.client.requests import Query, Rows
from lookalike.service.client.retrying import RETRIES, Retries
from lookalike.service.client.streaming import Receiving

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")

_TIMEOUT = 30.0
_MAX_ROWS = 4_096
_PAGE = 1_000


class Client:
    """Asks a service; keeps its connections, and may be used by several threads at once.

    Args:
        url: where the service is, such as http://127.0.0.1:8000.
        api_key: sent as X-API-Key.
        timeout: seconds for one attempt.
        retries: how patient it is.
        max_rows: rows in one call at most; a larger array goes in parts.
        transport: another way to send, such as httpx.HTTPTransport(verify=...).
        sleep: how to wait.

    Raises:
        ValueError: no http or https URL, a key that no header can have, or a bound that lets nothing through.

    Every call may raise what service.client.errors draws.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = _TIMEOUT,
        retries: Retries = RETRIES,
        max_rows: int = _MAX_ROWS,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = exchange.ClientOptions(timeout, retries, max_rows)
        self._http = httpx.Client(base_url=_base(url), headers=_headers(api_key), transport=transport)
        self._sleep = sleep

    def embed(self, rows: Rows) -> EmbedResponse:
        """(n, width) or (n, *input shape) of numbers, or rows of a table -> embeddings (n, latent_dim) float32.

        A table's rows are lists or dicts with words for categories and None for what is missing. In an array of them a
        category is its code, and NaN what is missing.
        """
        return self._drive(exchange.embed(rows, self._options))

    def search(
        self,
        *,
        inputs: Rows | None = None,
        embeddings: NDArray[Any] | None = None,
        ids: Sequence[str] | None = None,
        limit: int = 10,
        filter: dict[str, Any] | None = None,
        with_payload: bool = True,
        version: int | None = None,
        min_sequence: int = 0,
    ) -> SearchResponse:
        """The `limit` nearest items of each of exactly one: inputs as in `embed`, embeddings (n, latent_dim), or ids.

        An array's filter goes in the URL, which servers and httpx write to their logs; one over 4 KiB goes with the
        rows as JSON, where an array may hold no codes of categories. `version`: whose embeddings they are, where they
        were kept from before a retraining. `min_sequence`: a change of the change log that the answer must include;
        what this service itself acknowledged is always included.
        """
        query = Query.of(
            inputs=inputs, embeddings=embeddings, ids=ids, limit=limit, filter=filter, with_payload=with_payload,
            version=version, min_sequence=min_sequence,
        )  # fmt: skip
        return self._drive(exchange.search(query, self._options))

    def put(self, ids: Sequence[str], inputs: Rows, payloads: Sequence[dict[str, Any]] | None = None) -> WriteResponse:
        """Make or replace items; when it returns they are on disk, and found.

        `inputs` as in `embed`, but that a table with words goes as a list of dicts. Many go in several calls, of which
        those before one that fails stand; to call again does no harm. `warnings` of the answer names values that are
        so far outside the range of the training rows that the encoder clips them.
        """
        return self._drive(item_exchange.put(ids, inputs, payloads, self._options))

    def get(self, id: str, *, min_sequence: int = 0) -> Item:
        """One item; `min_sequence` as in `search`. Raises NotFound if no item has the id."""
        return self._drive(item_exchange.get(id, min_sequence, self._options))

    def delete(self, id: str) -> WriteResponse:
        """Delete an item; when it returns that is on disk.

        Raises NotFound where no item has the id: also where a first attempt deleted it, and its answer was lost.
        """
        return self._drive(item_exchange.delete(id, self._options))

    def delete_where(self, filter: dict[str, Any]) -> WriteResponse:
        """Delete all items whose payload passes a filter; `count` is of the last attempt."""
        return self._drive(item_exchange.delete_where(filter, self._options))

    def items(
        self, filter: dict[str, Any] | None = None, *, page: int = _PAGE, min_sequence: int = 0
    ) -> Iterator[ItemSummary]:
        """All items that pass, in the order of their ids, asked for page by page; those that stay come once.

        `min_sequence` as in `search`.
        """
        after: str | None = ""
        while after is not None:
            found = self._drive(item_exchange.page(filter, page, after, min_sequence, self._options))
            yield from found.items
            after = found.next

    def version(self) -> dict[str, Any]:
        """The serving version's manifest, with the evidence that it is good."""
        return self._drive(exchange.manifest(self._options))

    def ready(self) -> ReadyResponse:
        """Asked once. Raises NotReady where the version does not answers its canary query."""
        return self._drive(exchange.ready(self._options))

    def live(self) -> bool:
        """True; asked once. Raises ConnectionFailed where nobody answers."""
        return self._drive(exchange.live(self._options))

    def reload(self) -> dict[str, Any]:
        """Have the service take over the store's champion; gives `version`, which serves then. Sent once."""
        return self._drive(exchange.reload(self._options))

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, talk: Exchange[T]) -> T:
        try:
            send = next(talk)
            while True:
                send = talk.send(self._send(send))
        except StopIteration as done:
            result: T = done.value
            return result

    def _send(self, send: Send) -> Reply:
        if send.wait:
            self._sleep(send.wait)
        receiving = Receiving(send, self._options.retries.clock)
        try:
            with self._http.stream(**receiving.request) as response:
                receiving.begin()
                for part in response.iter_bytes():
                    receiving.add(part)
                return receiving.answer(response)
        except httpx.HTTPError as error:
            return receiving.failed(error)


class AsyncClient:
    """`Client` for asyncio, with the same arguments and calls. For trio, give `sleep=trio.sleep`."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = _TIMEOUT,
        retries: Retries = RETRIES,
        max_rows: int = _MAX_ROWS,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = exchange.ClientOptions(timeout, retries, max_rows)
        self._http = httpx.AsyncClient(base_url=_base(url), headers=_headers(api_key), transport=transport)
        self._sleep = sleep

    async def embed(self, rows: Rows) -> EmbedResponse:
        """See Client.embed."""
        return await self._drive(exchange.embed(rows, self._options))

    async def search(
        self,
        *,
        inputs: Rows | None = None,
        embeddings: NDArray[Any] | None = None,
        ids: Sequence[str] | None = None,
        limit: int = 10,
        filter: dict[str, Any] | None = None,
        with_payload: bool = True,
        version: int | None = None,
        min_sequence: int = 0,
    ) -> SearchResponse:
        """See Client.search."""
        query = Query.of(
            inputs=inputs, embeddings=embeddings, ids=ids, limit=limit, filter=filter, with_payload=with_payload,
            version=version, min_sequence=min_sequence,
        )  # fmt: skip
        return await self._drive(exchange.search(query, self._options))

    async def put(
        self, ids: Sequence[str], inputs: Rows, payloads: Sequence[dict[str, Any]] | None = None
    ) -> WriteResponse:
        """See Client.put."""
        return await self._drive(item_exchange.put(ids, inputs, payloads, self._options))

    async def get(self, id: str, *, min_sequence: int = 0) -> Item:
        """See Client.get."""
        return await self._drive(item_exchange.get(id, min_sequence, self._options))

    async def delete(self, id: str) -> WriteResponse:
        """See Client.delete."""
        return await self._drive(item_exchange.delete(id, self._options))

    async def delete_where(self, filter: dict[str, Any]) -> WriteResponse:
        """See Client.delete_where."""
        return await self._drive(item_exchange.delete_where(filter, self._options))

    async def items(
        self, filter: dict[str, Any] | None = None, *, page: int = _PAGE, min_sequence: int = 0
    ) -> AsyncIterator[ItemSummary]:
        """See Client.items."""
        after: str | None = ""
        while after is not None:
            found = await self._drive(item_exchange.page(filter, page, after, min_sequence, self._options))
            for item in found.items:
                yield item
            after = found.next

    async def version(self) -> dict[str, Any]:
        """See Client.version."""
        return await self._drive(exchange.manifest(self._options))

    async def ready(self) -> ReadyResponse:
        """See Client.ready."""
        return await self._drive(exchange.ready(self._options))

    async def live(self) -> bool:
        """See Client.live."""
        return await self._drive(exchange.live(self._options))

    async def reload(self) -> dict[str, Any]:
        """See Client.reload."""
        return await self._drive(exchange.reload(self._options))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _drive(self, talk: Exchange[T]) -> T:
        try:
            send = next(talk)
            while True:
                send = talk.send(await self._send(send))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, send: Send) -> Reply:
        if send.wait:
            await self._sleep(send.wait)
        receiving = Receiving(send, self._options.retries.clock)
        try:
            async with self._http.stream(**receiving.request) as response:
                receiving.begin()
                async for part in response.aiter_bytes():
                    receiving.add(part)
                return receiving.answer(response)
        except httpx.HTTPError as error:
            return receiving.failed(error)


def _base(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(
            f"url: expected http://HOST:PORT or https://HOST, found one that is broken: {error}"
        ) from error
    if base.scheme not in {"http", "https"} or not base.host:
        raise ValueError(f"url: expected http://HOST:PORT or https://HOST, found scheme {base.scheme or 'none'!r}")
    return base


def _headers(api_key: str | None) -> dict[bytes, bytes]:
    """The key in UTF-8, as the service compares it. Answers come as they are: npy does not compress well."""
    headers = {b"Accept-Encoding": b"identity", b"User-Agent": b"lookalike-client"}
    if api_key is None:
        return headers
    if not api_key or not api_key.isprintable() or api_key != api_key.strip():
        raise ValueError("api_key: expected printable text without spaces around it, found other")  # never the key
    return headers | {b"X-API-Key": api_key.encode("utf-8", "surrogateescape")}
