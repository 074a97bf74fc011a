"""A job beside a service: it takes what the service leaves."""

import contextlib
import os

__all__ = ["be_polite", "bound_threads"]


def be_polite() -> None:
    """The lowest priority for this thread and those that it starts from now on; on Linux, only idle cores."""
    with contextlib.suppress(OSError):
        os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def bound_threads(count: int) -> None:
    """So many for torch and for FAISS."""
    import faiss
    import torch

    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
