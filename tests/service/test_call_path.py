"""Which of the service's files a `POST /search` executes, from the ASGI entry to the response."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lookalike.index.changes.collection import Collection
from lookalike.index.versions.version import Version
from lookalike.service.app import create_app
from lookalike.service.settings import Settings
from tests.factories import ROOT
from tests.service.api.test_guard import write_keys
from tests.service.helpers import JSON, pixels_of, settings_for

pytestmark = pytest.mark.anyio
SERVICE = (ROOT / "service").resolve()
BACKGROUND = {"_beat", "_watch", "_watch_items", "_measure_log", "share_drift"}
"""The tasks of service.serving.serving and service.observability.metrics, which take turns with the request."""

PATH = [
    "observability/metrics.py",  # time and count the request
    "observability/logs.py",  # its id
    "api/guard.py",  # check the caller
    "parsing/bodies.py",  # read its headers, and later its body
    "api/routes.py",  # the steps of a search
    "parsing/rows.py",  # the limits, and the rows as an array
    "parsing/decoding.py",  # validate it: SearchQuery
    "serving/serving.py",  # the version that serves
    "serving/engine.py",  # wait for a batch
    "serving/batching.py",  # encode and search
    "api/responses.py",  # write the hits
]


@contextmanager
def traced() -> Iterator[list[str]]:
    """The files of the service in the order in which their functions are called, without the background tasks."""
    files: list[str] = []

    def trace(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename).resolve()
        if event != "call" or not path.is_relative_to(SERVICE):
            return
        caller: FrameType | None = frame
        while caller:
            if caller.f_code.co_name in BACKGROUND:
                return
            caller = caller.f_back
        if (name := str(path.relative_to(SERVICE))) not in files:
            files.append(name)

    sys.setprofile(trace)
    try:
        yield files
    finally:
        sys.setprofile(None)


async def files_of_search(settings: Settings, version: Version, *headers: tuple[bytes, bytes]) -> list[str]:
    body = json.dumps({"inputs": pixels_of("0").tolist(), "limit": 3}).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/search",
        "raw_path": b"/search",
        "query_string": b"",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"content-type", JSON.encode()), *headers],
    }
    app = create_app(settings, Collection(version))
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async with app.router.lifespan_context(app):
        for _ in range(2):  # the second does not import or compile anything
            with traced() as files:
                await app(scope | {"app": app}, receive, send)
    assert statuses == [200, 200]
    return files


async def test_a_search_passes_these_files_in_this_order(settings: Settings, version: Version) -> None:
    assert await files_of_search(settings, version) == PATH
    assert len(PATH) <= 12


async def test_a_search_with_a_key_passes_one_file_more(store_folder: Path, version: Version, tmp_path: Path) -> None:
    settings = settings_for(store_folder, keys=write_keys(tmp_path / "keys.json", "read"))
    files = await files_of_search(settings, version, (b"x-api-key", b"may read"))
    assert set(files) == {*PATH, "security/keys.py"}
    assert len(files) <= 12
