"""The deadline of a call."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request

from lookalike.service.errors import DeadlineError

__all__ = ["in_time"]

T = TypeVar("T")


async def in_time(request: Request, work: Coroutine[None, None, T], *, cancels: bool) -> T:
    """Wait for the result of the work until the deadline of a call.

    Raises DeadlineError after the deadline. If `cancels` is true, the work is then cancelled; if not, the work, such as
    a change, continues to its end.
    """
    seconds: float = request.app.state.settings.deadline_seconds
    task = asyncio.ensure_future(work)
    try:
        async with asyncio.timeout(seconds):
            return await (task if cancels else asyncio.shield(task))
    except TimeoutError as error:
        if not cancels:
            task.add_done_callback(lambda ended: ended.exception())  # the client has its answer already
        raise DeadlineError("request", expected=f"an answer in {seconds:g} s", found="no answer") from error
