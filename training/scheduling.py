"""A job beside a service: it works when nobody else wants to."""

import os
import sys

__all__ = ["lower_priority"]

NICENESS = 19


def lower_priority() -> None:
    """From now on, this process has a core only where no other one wants it, as far as the system can be told so.

    On Linux it is scheduled as idle (sched(7), SCHED_IDLE), and elsewhere with the lowest priority. Call it before
    threads are made, which have what their maker has.
    """
    os.nice(NICENESS)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
