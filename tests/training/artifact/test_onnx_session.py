"""A model whose loop never ends is stopped; the limit is short here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike.training.artifact import onnx_session
from lookalike.training.artifact.onnx_encoder import load_onnx, write_onnx
from lookalike.training.artifact.onnx_file import read_model
from lookalike.training.artifact.onnx_session import OnnxSession
from lookalike.training.errors import ArtifactError
from lookalike.training.rows.arrays import array_rows
from tests.factories import cloud
from tests.onnx_graphs import linear, looping, save_graph

ROWS = cloud(70, 3)
LARGE = np.full((1, 3), 1e6, np.float32)
STOPPED = r"expected a model that computes 1 rows within 0\.25 seconds, found a model that is still running\. Check"


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session, "SECONDS", 0.25)
    monkeypatch.setattr(onnx_session, "ROW_SECONDS", 0.001)


def test_a_loop_that_never_ends_is_stopped_and_other_rows_are_computed_after_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save_graph(tmp_path / "loops.onnx", looping(1e3))
    session = OnnxSession(path, read_model(path), torch.device("cpu"))
    for _ in range(2):
        np.testing.assert_array_equal(session.run(ROWS), ROWS)
        with pytest.raises(ArtifactError, match=rf"loops\.onnx: {STOPPED}"):
            session.run(LARGE)
    assert capfd.readouterr().err == ""


def test_a_build_names_the_file_of_the_user(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "loops.onnx", looping(-1e9))
    (tmp_path / "encoder").mkdir()
    with pytest.raises(ArtifactError, match=STOPPED) as caught:
        write_onnx(tmp_path / "encoder", path, array_rows(ROWS, "rows"))
    assert caught.value.field == str(path)


def test_an_encoder_is_stopped_at_a_row_that_the_build_did_not_try(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    write_onnx(tmp_path / "encoder", save_graph(tmp_path / "loops.onnx", looping(1e3)), array_rows(ROWS, "rows"))
    encoder = load_onnx(tmp_path / "encoder")
    with pytest.raises(ArtifactError, match=STOPPED):
        encoder.encode(LARGE)
    np.testing.assert_array_equal(encoder.encode(ROWS), ROWS)


def test_a_model_that_is_in_time_is_not_stopped_later(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "linear.onnx", linear(np.eye(3, dtype=np.float32)))
    session = OnnxSession(path, read_model(path), torch.device("cpu"))
    for _ in range(100):
        np.testing.assert_array_equal(session.run(ROWS), ROWS)
