"""The deadline of a call, and the work that goes on after it."""

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI, Request

from lookalike.service.api.deadline import in_time
from lookalike.service.errors import DeadlineError
from tests.service.helpers import settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    app = FastAPI()
    app.state.settings = settings_for(tmp_path, deadline_seconds=0.05)
    return Request({"type": "http", "app": app})


class Work:
    """Work that waits until it is let go on."""

    def __init__(self) -> None:
        self.go, self.ended = asyncio.Event(), asyncio.Event()
        self.how = ""

    async def run(self) -> int:
        try:
            await self.go.wait()
            self.how = "done"
        except asyncio.CancelledError:
            self.how = "cancelled"
            raise
        finally:
            self.ended.set()
        return 7


@pytest.mark.parametrize("cancels", [True, False])
async def test_returns_what_the_work_returns(request_: Request, cancels: bool) -> None:
    work = Work()
    work.go.set()
    assert await in_time(request_, work.run(), cancels=cancels) == 7


@pytest.mark.parametrize(("cancels", "how"), [(True, "cancelled"), (False, "done")])
async def test_late_work_is_cancelled_or_goes_on(request_: Request, cancels: bool, how: str) -> None:
    work = Work()
    with pytest.raises(DeadlineError, match=r"request: expected an answer in 0\.05 s"):
        await in_time(request_, work.run(), cancels=cancels)
    work.go.set()
    await work.ended.wait()
    assert work.how == how


@pytest.mark.parametrize("cancels", [True, False])
async def test_the_error_of_the_work_is_the_calls(request_: Request, cancels: bool) -> None:
    async def fail() -> None:
        raise KeyError("work")

    with pytest.raises(KeyError, match="work"):
        await in_time(request_, fail(), cancels=cancels)
