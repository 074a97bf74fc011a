"""What uvicorn knows of a request and ASGI does not say at once: is its body all there, is its client gone?

ASGI tells both only to a task that waits for it, and such a task, or a timer, costs as much as a search. Of another
server nothing is known, and the usual ways are taken.
"""

from collections.abc import Callable

from starlette.requests import Request

__all__ = ["has_arrived", "has_left"]


def has_arrived(request: Request) -> bool:
    """Is the whole body there, so that reading it does not wait?"""
    return getattr(_cycle(request), "more_body", True) is False


def has_left(request: Request) -> Callable[[], bool]:
    """A question that may be asked at any time: has the client closed its connection?"""
    cycle = _cycle(request)
    return lambda: getattr(cycle, "disconnected", False) is True


def _cycle(request: Request) -> object:
    return getattr(request.receive, "__self__", None)
