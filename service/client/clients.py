"""The two clients. Both run the same exchanges over httpx."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx
from numpy.typing import NDArray

from lookalike.service.client import exchange, item_exchange
from lookalike.service.client.address import base_url, client_headers
from lookalike.service.client.explanation import Explanation, Row, explain
from lookalike.service.client.images import Image, Images
from lookalike.service.client.item_responses import Item, ItemSummary, WriteResponse
from lookalike.service.client.messages import Exchange, Reply, Send
from lookalike.service.client.requests import Query, Rows, SearchOptions
from lookalike.service.client.responses import EmbedResponse, ReadyResponse, SearchResponse
from lookalike.service.client.retrying import RETRIES, Retries
from lookalike.service.client.streaming import ResponseStream

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")

_TIMEOUT = 30.0
_MAX_ROWS = 4_096
_PAGE = 1_000


class Client:
    """A client of one service. It keeps its connections open, and several threads may share it.

    Args:
        url: the service's address, such as http://127.0.0.1:8000.
        api_key: sent as X-API-Key.
        timeout: seconds for one attempt.
        retries: which calls are retried, and when.
        max_rows: the most rows in one call; a larger array is sent in parts.
        transport: a custom httpx transport, such as httpx.HTTPTransport(verify=...).
        sleep: the function that waits between attempts.

    Raises:
        ValueError: the URL is not http or https, the key cannot be sent in a header, or `timeout` or `max_rows` is
            not positive.

    Every method may raise the errors of service.client.errors.
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
        self._http = httpx.Client(base_url=base_url(url), headers=client_headers(api_key), transport=transport)
        self._sleep = sleep

    def embed(self, rows: Rows | None = None, *, images: Images | None = None) -> EmbedResponse:
        """Embed numbers (n, width) or (n, *input shape), or rows of a table; returns (n, latent_dim) float32.

        The rows of a table are lists or dicts, with a word for a category and None for a missing value. In an array
        of numbers, a category is its code and a missing value is NaN.

        Instead of rows, `images` are photos, if the encoder was trained on photos: paths, bytes of JPEG, PNG or WebP
        files, PIL images, or arrays (h, w) or (h, w, 3) of uint8.
        """
        return self._run(exchange.embed(rows, self._options, images))

    def search(
        self,
        *,
        inputs: Rows | None = None,
        embeddings: NDArray[Any] | None = None,
        ids: Sequence[str] | None = None,
        images: Images | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResponse:
        """Find the `limit` nearest items of each query: of inputs or images as in `embed`, of embeddings or ids.

        Give exactly one of the four. The filter of an array is sent in the URL, which servers and httpx write to
        their logs. A filter over 4 KiB is sent as JSON, together with the rows; an array may then contain no codes of
        categories.

        Args:
            embeddings: (n, latent_dim).
            limit: 10 by default. filter: a filter as in POST /search. with_payload: True by default.
            version: the version that computed the embeddings, if they are older than a retraining.
            min_sequence: the change of the change log that the response must include. Changes that this service
                acknowledged are always included.
            distinct: of windows of recordings, whether a hit that overlaps a better hit is left out; True by default.
            exclude: of windows, in a search with ids: leave out hits of the query's own recording that are less
                than this far from it, in seconds (in samples without a clock) or as a time such as "30s".
        """
        return self._run(exchange.search(Query.of(inputs, embeddings, ids, images, **options), self._options))

    def explain(
        self,
        ids: Sequence[str] | None = None,
        *,
        input: Row | None = None,
        image: Image | None = None,
        id: str | None = None,
    ) -> Explanation:
        """Explain which parts make two items alike, and which separate them.

        Give the ids of two items; or an input or an image as in `embed`, such as a query, and the id of an item, such
        as a hit.
        """
        return self._run(explain(ids, input, image, id, self._options))

    def put(
        self,
        ids: Sequence[str],
        inputs: Rows | None = None,
        payloads: Sequence[dict[str, Any]] | None = None,
        *,
        images: Images | None = None,
        embeddings: Rows | None = None,
    ) -> WriteResponse:
        """Create or replace items. When the call returns, the items are on disk and searches find them.

        Give either inputs or images, as in `embed`, except that a table with words is a list of dicts; or embeddings if
        the version has no encoder. Many items are sent in several calls. If a call fails, the calls before it remain in
        effect; to put the same items again is safe. `warnings` of the response lists values that the encoder clips
        because they are far outside the training rows' range.
        """
        rows = item_exchange.ItemRows.of(inputs, images, embeddings)
        return self._run(item_exchange.put(item_exchange.Items.of(ids, rows, payloads), self._options))

    def preview(self, id: str) -> bytes:
        """Get the preview of an item: a WebP file. Raises NotFound if no item has the id, or the item has none."""
        return self._run(item_exchange.preview(id, self._options))

    def get(self, id: str, *, min_sequence: int = 0) -> Item:
        """Get one item; `min_sequence` is as in `search`. Raises NotFound if no item has the id."""
        return self._run(item_exchange.get(id, min_sequence, self._options))

    def delete(self, id: str) -> WriteResponse:
        """Delete an item. When the call returns, the deletion is on disk.

        Raises NotFound if no item has the id, or if the response to a successful first attempt was lost.
        """
        return self._run(item_exchange.delete(id, self._options))

    def delete_where(self, filter: dict[str, Any]) -> WriteResponse:
        """Delete all items whose payload matches a filter; `count` is that of the last attempt."""
        return self._run(item_exchange.delete_where(filter, self._options))

    def items(
        self, filter: dict[str, Any] | None = None, *, page: int = _PAGE, min_sequence: int = 0
    ) -> Iterator[ItemSummary]:
        """Iterate over all items that match the filter, ordered by id, requesting `page` items at a time.

        An item that exists during the whole iteration is returned exactly once. `min_sequence` is as in `search`.
        """
        after: str | None = ""
        while after is not None:
            response = self._run(item_exchange.page(filter, page, after, min_sequence, self._options))
            yield from response.items
            after = response.next

    def version(self) -> dict[str, Any]:
        """Get the manifest of the serving version, with its measured quality."""
        return self._run(exchange.manifest(self._options))

    def ready(self) -> ReadyResponse:
        """Check that the service is ready, without retries. Raises NotReady if its canary query fails."""
        return self._run(exchange.ready(self._options))

    def live(self) -> bool:
        """Return True if the service is alive, without retries. Raises ConnectionFailed if there is no response."""
        return self._run(exchange.live(self._options))

    def reload(self) -> dict[str, Any]:
        """Make the service open the store's champion, without retries; `version` is the one that serves then."""
        return self._run(exchange.reload(self._options))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, steps: Exchange[T]) -> T:
        try:
            send = next(steps)
            while True:
                send = steps.send(self._send(send))
        except StopIteration as done:
            result: T = done.value
            return result

    def _send(self, send: Send) -> Reply:
        if send.wait:
            self._sleep(send.wait)
        stream = ResponseStream(send, self._options.retries.clock)
        try:
            with self._http.stream(**stream.request) as response:
                stream.start()
                for part in response.iter_bytes():
                    stream.add(part)
                return stream.response(response)
        except httpx.HTTPError as error:
            return stream.failure(error)


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
        self._http = httpx.AsyncClient(base_url=base_url(url), headers=client_headers(api_key), transport=transport)
        self._sleep = sleep

    async def embed(self, rows: Rows | None = None, *, images: Images | None = None) -> EmbedResponse:
        """See Client.embed."""
        return await self._run(exchange.embed(rows, self._options, images))

    async def search(
        self,
        *,
        inputs: Rows | None = None,
        embeddings: NDArray[Any] | None = None,
        ids: Sequence[str] | None = None,
        images: Images | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResponse:
        """See Client.search."""
        return await self._run(exchange.search(Query.of(inputs, embeddings, ids, images, **options), self._options))

    async def explain(
        self,
        ids: Sequence[str] | None = None,
        *,
        input: Row | None = None,
        image: Image | None = None,
        id: str | None = None,
    ) -> Explanation:
        """See Client.explain."""
        return await self._run(explain(ids, input, image, id, self._options))

    async def put(
        self,
        ids: Sequence[str],
        inputs: Rows | None = None,
        payloads: Sequence[dict[str, Any]] | None = None,
        *,
        images: Images | None = None,
        embeddings: Rows | None = None,
    ) -> WriteResponse:
        """See Client.put."""
        rows = item_exchange.ItemRows.of(inputs, images, embeddings)
        return await self._run(item_exchange.put(item_exchange.Items.of(ids, rows, payloads), self._options))

    async def preview(self, id: str) -> bytes:
        """See Client.preview."""
        return await self._run(item_exchange.preview(id, self._options))

    async def get(self, id: str, *, min_sequence: int = 0) -> Item:
        """See Client.get."""
        return await self._run(item_exchange.get(id, min_sequence, self._options))

    async def delete(self, id: str) -> WriteResponse:
        """See Client.delete."""
        return await self._run(item_exchange.delete(id, self._options))

    async def delete_where(self, filter: dict[str, Any]) -> WriteResponse:
        """See Client.delete_where."""
        return await self._run(item_exchange.delete_where(filter, self._options))

    async def items(
        self, filter: dict[str, Any] | None = None, *, page: int = _PAGE, min_sequence: int = 0
    ) -> AsyncIterator[ItemSummary]:
        """See Client.items."""
        after: str | None = ""
        while after is not None:
            response = await self._run(item_exchange.page(filter, page, after, min_sequence, self._options))
            for item in response.items:
                yield item
            after = response.next

    async def version(self) -> dict[str, Any]:
        """See Client.version."""
        return await self._run(exchange.manifest(self._options))

    async def ready(self) -> ReadyResponse:
        """See Client.ready."""
        return await self._run(exchange.ready(self._options))

    async def live(self) -> bool:
        """See Client.live."""
        return await self._run(exchange.live(self._options))

    async def reload(self) -> dict[str, Any]:
        """See Client.reload."""
        return await self._run(exchange.reload(self._options))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _run(self, steps: Exchange[T]) -> T:
        try:
            send = next(steps)
            while True:
                send = steps.send(await self._send(send))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, send: Send) -> Reply:
        if send.wait:
            await self._sleep(send.wait)
        stream = ResponseStream(send, self._options.retries.clock)
        try:
            async with self._http.stream(**stream.request) as response:
                stream.start()
                async for part in response.aiter_bytes():
                    stream.add(part)
                return stream.response(response)
        except httpx.HTTPError as error:
            return stream.failure(error)
