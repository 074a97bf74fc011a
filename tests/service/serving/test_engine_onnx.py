"""A model of the user may take any time, so it never runs on the event loop."""

from pathlib import Path

import numpy as np
import pytest

from lookalike.encoders import open_for_build
from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import Collection
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.service.errors import DeadlineError
from lookalike.service.serving.engine import Engine, QueueLimits, engine_thread
from lookalike.training.artifact import onnx_session
from tests.factories import cloud
from tests.onnx_graphs import looping, save_graph

pytestmark = pytest.mark.anyio
ROWS = cloud(100, 3)
LOOPS = np.full((1, 3), 1e6, np.float32)


async def test_a_call_whose_model_loops_fails_at_its_deadline_and_later_calls_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    store, model = Store(tmp_path / "store"), save_graph(tmp_path / "model.onnx", looping(1e3))
    with open_for_build(str(tmp_path / "rows.npy"), str(model), "l2") as (rows, encoder):
        number = build(rows, encoder, store, metric="l2", target=Target(key="Flat"), device="cpu")
    monkeypatch.setattr(onnx_session, "SECONDS", 1.0)
    monkeypatch.setattr(onnx_session, "ROW_SECONDS", 0.001)
    version = store.open(number)
    with engine_thread() as pool:
        hasty = Engine(Collection(version), pool, queue_limits=QueueLimits(seconds=0.1))
        with pytest.raises(DeadlineError):
            await hasty.embed(LOOPS)
        patient = Engine(Collection(version), pool)  # waits until the thread is free again
        np.testing.assert_array_equal(await patient.embed(ROWS[:2]), ROWS[:2])
