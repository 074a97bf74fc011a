"""Steps over rows on a GPU: in blocks through pinned memory, and small batches as CUDA graphs.

A copy to or from the GPU overlaps with its work only if the host memory is pinned. Allocating pinned memory is slow, so
the buffers are kept. Blocks alternate between two streams: one block is copied while the other is computed.

A small batch takes some microseconds to compute, and each of its kernels takes as long to launch. A graph captures all
kernels once and launches them together. It reads the weights in place: weights that are overwritten in memory change
its results, so a canary query detects that as it does without a graph.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from lookalike.training.array_types import Floats

__all__ = ["BLOCK_ROWS", "SIZES", "CudaSteps", "Step", "block_rows", "full_precision", "size_for"]

Step = Callable[[Tensor], Tensor]
"""(n, ins) on the device -> (n, outs) on the device; no row depends on another row."""

SIZES = (1, 8, 16, 32, 64, 128)
"""Rows in a graph; a batch is padded to the next size."""
BLOCK_ROWS = 4_096
_BLOCK_VALUES = 1 << 25
"""A block has at most this many rows, and at most this many values between two layers: 128 MiB."""

_turn = threading.Lock()
"""One thread at a time: the GPU runs one step after another anyway, and `full_precision` affects all threads."""


class CudaSteps:
    """Runs steps over host rows on one device; any thread may call `run`, and the calls run one at a time."""

    def __init__(self, device: torch.device, widest: int) -> None:
        """`widest`: the most values of a row between two layers."""
        torch.cuda.synchronize(device)  # a different stream wrote the weights
        self._device = device
        self._block = block_rows(widest)
        self._lanes = _Lane(device), _Lane(device)
        self._graphs: dict[tuple[str, int], _Graph] = {}
        self._capturing = False

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Capture each small batch of a step that runs in this context as a graph, which is used from then on."""
        self._capturing = True
        try:
            yield
        finally:
            self._capturing = False

    def run(self, name: str, rows: Floats, width: int, step: Step) -> Floats:
        """(n, ins) float32 -> (n, width) float32; `name` identifies the step among the encoder's steps."""
        output = np.empty((len(rows), width), np.float32)
        size = size_for(len(rows))
        with _turn, torch.inference_mode(), full_precision(self._device):
            if self._capturing and size and (name, size) not in self._graphs:
                self._graphs[name, size] = _Graph(step, (size, rows.shape[1]), self._lanes[0].stream)
            if graph := self._graphs.get((name, size)):
                graph.run(rows, output)
            else:
                self._in_blocks(rows, output, step)
        return output

    def _in_blocks(self, rows: Floats, output: Floats, step: Step) -> None:
        for number, start in enumerate(range(0, len(rows), self._block)):
            part = slice(start, start + self._block)
            self._lanes[number % 2].begin(rows[part], output[part], step)
        for lane in self._lanes:
            lane.finish()


class _Lane:
    """A stream, with pinned memory for one block to the device and one block back."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._rows_buffer = self._output_buffer = torch.empty(0)
        self._pending: tuple[Tensor, Floats] | None = None

    def begin(self, rows: Floats, output: Floats, step: Step) -> None:
        """Finish the block in progress, then start on (n, ins) rows; `finish` writes the result to `output`."""
        self.finish()
        self._rows_buffer = _grown(self._rows_buffer, rows.size)
        self._output_buffer = _grown(self._output_buffer, output.size)
        pinned_rows = self._rows_buffer[: rows.size].view(rows.shape)
        pinned_output = self._output_buffer[: output.size].view(output.shape)
        pinned_rows.copy_(torch.from_numpy(rows))
        with torch.cuda.stream(self.stream):
            result = step(pinned_rows.to(self.stream.device, non_blocking=True))
            pinned_output.copy_(result.to(pinned_output.dtype), non_blocking=True)
        self._pending = pinned_output, output

    def finish(self) -> None:
        if self._pending:
            self.stream.synchronize()
            pinned_output, output = self._pending
            torch.from_numpy(output).copy_(pinned_output)
            self._pending = None


class _Graph:
    """A step for one number of rows, launched at once. Unused rows keep earlier input; their output is dropped."""

    def __init__(self, step: Step, shape: tuple[int, int], stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._pinned_rows = torch.zeros(shape, pin_memory=True)
        with torch.cuda.stream(stream):
            self._rows = torch.zeros(shape, device=stream.device)
            step(self._rows)  # the libraries choose their kernels and allocate memory
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            self._graph.capture_begin(capture_error_mode="thread_local")  # other threads continue
            try:
                self._result = step(self._rows).to(torch.float32)
            finally:
                self._graph.capture_end()
        self._pinned_output = torch.zeros(self._result.shape, pin_memory=True)
        self._input, self._output = self._pinned_rows.numpy(), self._pinned_output.numpy()

    def run(self, rows: Floats, output: Floats) -> None:
        """(n, ins), n at most the captured number -> `output`, (n, outs)."""
        self._input[: len(rows)] = rows
        with torch.cuda.stream(self._stream):
            self._rows.copy_(self._pinned_rows, non_blocking=True)
            self._graph.replay()
            self._pinned_output.copy_(self._result, non_blocking=True)
        self._stream.synchronize()
        output[:] = self._output[: len(rows)]


def size_for(count: int) -> int:
    """The size of the graph for `count` rows; 0 if there is none, or no row."""
    return next((size for size in SIZES if size >= count), 0) if count else 0


def block_rows(widest: int) -> int:
    """The number of rows in a block, if a row has up to `widest` values between two layers."""
    return max(1, min(BLOCK_ROWS, _BLOCK_VALUES // widest))


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Compute convolutions fully in float32: CUDA would round their factors to 10 bits (TF32)."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _grown(buffer: Tensor, values: int) -> Tensor:
    """A flat pinned float32 buffer for at least `values` values."""
    return buffer if len(buffer) >= values else torch.empty(values, pin_memory=True)
