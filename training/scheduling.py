"""The scheduling of a background job next to a service."""

import os
import sys

__all__ = ["lower_priority"]

NICENESS = 19


def lower_priority() -> None:
    """Let this process use a core only when no other process needs it, as far as the system allows.

    On Linux the scheduling policy is SCHED_IDLE (sched(7)), elsewhere the priority is the lowest. Call it before
    starting threads, which inherit both.
    """
    os.nice(NICENESS)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
