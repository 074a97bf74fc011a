"""Steps over rows on a GPU: through pinned memory, one block while another is on its way, few rows as a graph.

A copy to or from the GPU runs beside its products only where the memory on this side is pinned, and pinned memory is
slow to get: so it is kept. Blocks take turns on two streams, so that one is copied while the other is worked on.

A small batch is worth some microseconds of products, and each of its kernels costs as much to launch. A graph is all of
them captured once, to be launched at once. It reads the weights where they lie: weights that are overwritten in memory
are those that it answers with, so a canary query notices that as it does without a graph.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BLOCK_ROWS", "SIZES", "CudaSteps", "Step", "block_rows", "full_precision", "size_for"]

Step = Callable[[Tensor], Tensor]
"""(n, ins) on the device -> (n, outs) there, each row by itself."""

SIZES = (1, 8, 16, 32, 64, 128)
"""Rows in a graph; a batch is rounded up to one."""
BLOCK_ROWS = 4_096
_BLOCK_VALUES = 1 << 25
"""Rows are answered in blocks of at most so many, and of at most so many values between two layers: 128 MiB."""

_turn = threading.Lock()
"""One thread at a time: the GPU does one thing after the other anyway, and `full_precision` is for all threads."""


class CudaSteps:
    """Runs steps over host rows on one device; any thread may call it, and they take turns."""

    def __init__(self, device: torch.device, widest: int) -> None:
        """`widest`: the most values that a row has between two layers."""
        torch.cuda.synchronize(device)  # what lies there was put there by another stream
        self._device = device
        self._block = block_rows(widest)
        self._lanes = _Lane(device), _Lane(device)
        self._graphs: dict[tuple[str, int], _Graph] = {}
        self._capturing = False

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Each small batch of a step that is run meanwhile is captured as a graph, and from then on answered by it."""
        self._capturing = True
        try:
            yield
        finally:
            self._capturing = False

    def run(self, name: str, rows: NDArray[np.float32], width: int, step: Step) -> NDArray[np.float32]:
        """(n, ins) float32 -> (n, width) float32; `name` tells the step from others of the same encoder."""
        output = np.empty((len(rows), width), np.float32)
        size = size_for(len(rows))
        with _turn, torch.inference_mode(), full_precision(self._device):
            if self._capturing and size and (name, size) not in self._graphs:
                self._graphs[name, size] = _Graph(step, (size, rows.shape[1]), self._lanes[0].stream)
            if graph := self._graphs.get((name, size)):
                graph.answer(rows, output)
            else:
                self._in_blocks(rows, output, step)
        return output

    def _in_blocks(self, rows: NDArray[np.float32], output: NDArray[np.float32], step: Step) -> None:
        for number, start in enumerate(range(0, len(rows), self._block)):
            part = slice(start, start + self._block)
            self._lanes[number % 2].begin(rows[part], output[part], step)
        for lane in self._lanes:
            lane.finish()


class _Lane:
    """A stream, with pinned memory for one block on its way to the device and one on its way back."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._taken = self._given = torch.empty(0)
        self._due: tuple[Tensor, NDArray[np.float32]] | None = None

    def begin(self, rows: NDArray[np.float32], output: NDArray[np.float32], step: Step) -> None:
        """Finish what is under way, then start on (n, ins) rows, whose answer will be in `output`."""
        self.finish()
        self._taken, self._given = _grown(self._taken, rows.size), _grown(self._given, output.size)
        taken = self._taken[: rows.size].view(rows.shape)
        given = self._given[: output.size].view(output.shape)
        taken.copy_(torch.from_numpy(rows))
        with torch.cuda.stream(self.stream):
            made = step(taken.to(self.stream.device, non_blocking=True))
            given.copy_(made.to(given.dtype), non_blocking=True)
        self._due = given, output

    def finish(self) -> None:
        if self._due:
            self.stream.synchronize()
            given, output = self._due
            torch.from_numpy(output).copy_(given)
            self._due = None


class _Graph:
    """A step for one number of rows, launched at once. Rows past those that are asked are what was asked before."""

    def __init__(self, step: Step, shape: tuple[int, int], stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._taken = torch.zeros(shape, pin_memory=True)
        with torch.cuda.stream(stream):
            self._rows = torch.zeros(shape, device=stream.device)
            step(self._rows)  # the libraries choose their kernels, and allocate what these need
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            self._graph.capture_begin(capture_error_mode="thread_local")  # other threads go on meanwhile
            try:
                self._made = step(self._rows).to(torch.float32)
            finally:
                self._graph.capture_end()
        self._given = torch.zeros(self._made.shape, pin_memory=True)
        self._asked, self._answer = self._taken.numpy(), self._given.numpy()

    def answer(self, rows: NDArray[np.float32], output: NDArray[np.float32]) -> None:
        """(n, ins), n at most as captured -> `output`, (n, outs)."""
        self._asked[: len(rows)] = rows
        with torch.cuda.stream(self._stream):
            self._rows.copy_(self._taken, non_blocking=True)
            self._graph.replay()
            self._given.copy_(self._made, non_blocking=True)
        self._stream.synchronize()
        output[:] = self._answer[: len(rows)]


def size_for(count: int) -> int:
    """The size of the graph for so many rows; 0 where there is none, as for no row at all."""
    return next((size for size in SIZES if size >= count), 0) if count else 0


def block_rows(widest: int) -> int:
    """How many rows are worked on at once, where one has so many values between two layers."""
    return max(1, min(BLOCK_ROWS, _BLOCK_VALUES // widest))


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Convolutions in float32 throughout: CUDA would round their factors to 10 bits (TF32), and answer otherwise."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _grown(buffer: Tensor, values: int) -> Tensor:
    """A flat pinned float32 buffer for so many values at least."""
    return buffer if len(buffer) >= values else torch.empty(values, pin_memory=True)
