"""Run an ONNX model with onnxruntime, with as many threads as torch may use, and stop it if it takes too long.

A model may have loops, and a loop may never end, for some rows or for all rows. Before each operator, also inside a
loop, onnxruntime checks whether the run must terminate.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lookalike.training.array_types import Floats
from lookalike.training.artifact.onnx_file import OnnxModel, library
from lookalike.training.errors import ArtifactError

__all__ = ["OnnxSession"]

SECONDS, ROW_SECONDS = 60.0, 10.0
"""How long a batch may take: `SECONDS`, or `ROW_SECONDS` for each of its rows if that is longer."""
_CHECK_SECONDS = 0.1
"""Seconds between two checks of the running models."""


class _Watchdog:
    """Stops runs that take too long: one thread for all models of this process, which waits while no model runs."""

    def __init__(self) -> None:
        self._lock, self._busy = threading.Lock(), threading.Event()
        self._ends: dict[Any, float] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def limited(self, options: Any, limit: float) -> Iterator[None]:
        """Terminate the run with these options if it stays in this context for more than `limit` seconds."""
        with self._lock:
            self._ends[options] = time.monotonic() + limit
            self._busy.set()
            if self._thread is None or not self._thread.is_alive():  # the first run, or the first after a fork
                self._thread = threading.Thread(target=self._check, name="onnx-limit", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._ends[options]

    def _check(self) -> None:
        while self._busy.wait():
            time.sleep(_CHECK_SECONDS)
            with self._lock:
                for options, end in self._ends.items():
                    if time.monotonic() > end:
                        options.terminate = True
                if not self._ends:
                    self._busy.clear()


_WATCHDOG = _Watchdog()


class OnnxSession:
    """The session of a model, which is loaded at the first run. Waiting threads sleep and do not spin."""

    def __init__(self, path: Path, model: OnnxModel, device: torch.device) -> None:
        self._path, self._model, self._device = path, model, device
        self._lock = threading.Lock()
        self._latest: tuple[int, Any] | None = None

    def run(self, block: Floats) -> Any:
        """(n, ...) -> the output. Raises ArtifactError if the model fails, or takes too long."""
        session, options = self._get(), library("onnxruntime").RunOptions()
        limit = max(SECONDS, ROW_SECONDS * len(block))
        try:
            with _WATCHDOG.limited(options, limit):
                (output,) = session.run([self._model.output], {self._model.input: block}, options)
        except Exception as error:  # onnxruntime's errors have no common base
            if options.terminate:
                expected = f"a model that computes {len(block):,} rows within {limit:g} seconds"
                remedy = "Check whether the model has a loop that never ends."
                raise ArtifactError(str(self._path), expected, "a model that is still running", remedy) from error
            raise self._failed(error) from error
        return output

    def _get(self) -> Any:
        threads = torch.get_num_threads()
        with self._lock:
            if self._latest is None or self._latest[0] != threads:
                self._latest = threads, self._open(threads)
            return self._latest[1]

    def _open(self, threads: int) -> Any:
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors are raised
        provider = "CUDAExecutionProvider" if self._device.type == "cuda" else "CPUExecutionProvider"
        try:
            return runtime.InferenceSession(str(self._path), options, providers=[provider])
        except Exception as error:  # onnxruntime's errors have no common base
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ArtifactError:
        found = " ".join(str(error).split())[:300]
        return ArtifactError(str(self._path), expected="a model that onnxruntime can run", found=found)
