"""Decode the photos of requests in threads, so that other calls are answered in the meantime."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lookalike.service.errors import DeadlineError, DisconnectedError
from lookalike.service.parsing.photos import Photo, PhotoRows, decode_photos
from lookalike.service.parsing.rows import RequestLimits
from lookalike.service.serving.batching import IsDisconnected

__all__ = ["PhotoReader"]

MOST_THREADS = 4
"""Each thread holds one decoded photo."""


class PhotoReader:
    """Decodes photos; the photos of one call one after the other."""

    def __init__(self, threads: int, seconds: float) -> None:
        """`seconds`: how long a call may wait and be decoded."""
        self._pool = ThreadPoolExecutor(min(threads, MOST_THREADS), "photos")
        self._seconds = seconds

    async def read(
        self,
        photos: Sequence[Photo],
        limits: RequestLimits,
        is_disconnected: IsDisconnected,
        *,
        previews: bool = False,
    ) -> PhotoRows:
        """Return the rows of photos, and their previews if they are wanted.

        Raises:
            RequestError, TooLargeError: a photo is wrong; the error names it.
            DeadlineError: the photos took too long.
            DisconnectedError: the client disconnected.
        """
        end = time.monotonic() + self._seconds

        def check() -> None:
            if time.monotonic() > end:
                raise self._late()
            if is_disconnected():
                expected, found = "a client that waits", "a client that disconnected"
                raise DisconnectedError("request", expected=expected, found=found)

        work = partial(decode_photos, photos, limits, check, previews=previews)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError as error:
            raise self._late() from error

    def close(self) -> None:
        """Stop the threads after the photos at which they are."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _late(self) -> DeadlineError:
        expected = f"photos that are decoded in {self._seconds:g} s"
        return DeadlineError("request", expected=expected, found="photos that take longer")
