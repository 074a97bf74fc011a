import threading

import numpy as np
import pytest

from lookalike.service.errors import DeadlineError, DisconnectedError, RequestError
from lookalike.service.parsing.photos import Photo
from lookalike.service.parsing.rows import RequestLimits
from lookalike.service.serving.batching import never
from lookalike.service.serving.photo_reader import PhotoReader
from tests.photos import TRANSFORM, photo, row_of

pytestmark = pytest.mark.anyio
COLOR = (200, 100, 50)
PHOTOS = [Photo("a", photo(COLOR))] * 3
LIMITS = RequestLimits((2, 2, 3), 12, 3, 10, 100, photo=TRANSFORM, max_pixels=100)


async def test_decodes_in_another_thread() -> None:
    threads = set[int]()

    def is_disconnected() -> bool:
        threads.add(threading.get_ident())
        return False

    reader = PhotoReader(1, 30)
    decoded = await reader.read(PHOTOS, LIMITS, is_disconnected)
    np.testing.assert_array_equal(decoded.rows, [row_of(COLOR)] * 3)
    assert len(threads - {threading.get_ident()}) == len(threads) == 1
    reader.close()


async def test_an_error_of_a_photo_reaches_the_caller() -> None:
    reader = PhotoReader(1, 30)
    with pytest.raises(RequestError, match="b: expected a JPEG"):
        await reader.read([*PHOTOS, Photo("b", b"")], LIMITS, never)
    reader.close()


async def test_stops_if_the_client_has_left() -> None:
    reader, asked = PhotoReader(1, 30), list[int]()

    def is_disconnected() -> bool:
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(DisconnectedError):
        await reader.read(PHOTOS, LIMITS, is_disconnected)
    assert len(asked) == 2
    reader.close()


async def test_a_call_waits_no_longer_than_its_time() -> None:
    reader, go = PhotoReader(1, 0.05), threading.Event()

    def wait() -> bool:
        go.wait()
        return False

    with pytest.raises(DeadlineError):
        await reader.read(PHOTOS, LIMITS, wait)
    with pytest.raises(DeadlineError):  # the only thread is busy
        await reader.read(PHOTOS, LIMITS, never)
    go.set()
    reader.close()
