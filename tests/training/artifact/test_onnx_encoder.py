"""Models made by hand, whose embeddings are known."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from lookalike.training.artifact.encoder import FORMAT
from lookalike.training.artifact.onnx_encoder import OnnxEncoder, load_onnx, reading_settings, run_model, write_onnx
from lookalike.training.config import DataConfig
from lookalike.training.errors import ArtifactError, ConfigError, DataError, ExportError
from lookalike.training.rows import Rows
from lookalike.training.rows.arrays import array_rows
from lookalike.training.tables.columns import Column
from tests.factories import cloud, reseal
from tests.onnx_graphs import graph, linear, save_graph
from tests.training.helpers import flip_bit

MATRIX = cloud(3, 2, seed=1)
ROWS = cloud(70, 3)
FLATTEN = helper.make_node("Flatten", ["x"], ["y"])


def written(folder: Path, model: Any, rows: Rows) -> OnnxEncoder:
    folder.mkdir()
    write_onnx(folder, save_graph(folder.with_suffix(".onnx"), model), rows)
    return load_onnx(folder)


@pytest.mark.parametrize("batch", ["batch", 1, 32, 100])
def test_embeds_each_row_by_the_model(tmp_path: Path, batch: int | str) -> None:
    encoder = written(tmp_path / "encoder", linear(MATRIX, batch), array_rows(ROWS, "rows"))
    assert (encoder.width, encoder.latent_dim, encoder.kind, encoder.embeds) == (3, 2, "onnx", True)
    for count in (0, 1, 33, 70):
        np.testing.assert_allclose(encoder.encode(ROWS[:count]), ROWS[:count] @ MATRIX, atol=1e-5)
    latent, errors = encoder.encode_with_errors(ROWS)
    assert errors is None
    assert np.array_equal(latent, encoder.encode(ROWS))


PICTURES: NDArray[np.float32] = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 60)
GREY: NDArray[np.float32] = np.arange(40, dtype=np.float32).reshape(2, 20)
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int | str, ...], Any]] = {
    "as it is": ((4, 5, 3), ("batch", 4, 5, 3), lambda rows: rows),
    "flat": ((4, 5, 3), ("batch", 60), lambda rows: rows),
    "channels first": (
        (4, 5, 3),
        ("batch", 3, 4, 5),
        lambda rows: rows.reshape(-1, 4, 5, 3).transpose(0, 3, 1, 2).reshape(-1, 60),
    ),
    "one channel first": ((4, 5), ("batch", 1, 4, 5), lambda rows: rows),
    "one channel last": ((4, 5), ("batch", 4, 5, 1), lambda rows: rows),
    "sides of any size": (
        (4, 5, 3),
        ("batch", 3, "height", "width"),
        lambda rows: rows.reshape(-1, 4, 5, 3).transpose(0, 3, 1, 2).reshape(-1, 60),
    ),
}


@pytest.mark.parametrize(("shape", "wanted", "expected"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_reshapes_rows_as_the_model_reads_them(
    tmp_path: Path, shape: tuple[int, ...], wanted: tuple[int | str, ...], expected: Any
) -> None:
    """The model returns its input as one list of values."""
    values = PICTURES if len(shape) == 3 else GREY
    rows = array_rows(values, "pictures", shape=shape)
    encoder = written(tmp_path / "encoder", graph([FLATTEN], rows=wanted), rows)
    assert np.array_equal(encoder.encode(values), expected(values))


def test_refuses_rows_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows: expected rows of shape \(4\), as the model reads them, found .*\(3,\)"):
        written(tmp_path / "encoder", linear(cloud(4, 2)), array_rows(ROWS, "rows"))


def test_refuses_a_model_whose_embedding_depends_on_the_batch(tmp_path: Path) -> None:
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1)
    model = graph(
        [mean, helper.make_node("Sub", ["x", "m"], ["y"])], out=("batch", 3), weights={"axes": np.array([0], np.int64)}
    )
    with pytest.raises(ExportError, match=r"single rows' embeddings: expected at most 0\.0001 .* eval mode"):
        written(tmp_path / "encoder", model, array_rows(ROWS, "rows"))


def test_refuses_outputs_that_are_no_embeddings(tmp_path: Path) -> None:
    rows = array_rows(ROWS, "rows")
    with pytest.raises(DataError, match="rows, row 0: expected a row with a finite embedding"):
        written(tmp_path / "nan", graph([helper.make_node("Log", ["x"], ["y"])], out=("batch", 3)), rows)
    column = helper.make_node("Reshape", ["x", "shape"], ["y"])
    model = graph([column], weights={"shape": np.array([-1, 1], np.int64)})
    with pytest.raises(ArtifactError, match=r"output: expected the shape \(1, at most 65,536\), found \(3, 1\)"):
        written(tmp_path / "three", model, rows)
    fails = graph([column], weights={"shape": np.array([7, 7], np.int64)})
    with pytest.raises(ArtifactError, match="expected a model that onnxruntime can run"):
        written(tmp_path / "fails", fails, rows)


def test_a_table_of_numbers_keeps_its_columns(tmp_path: Path) -> None:
    columns = tuple(Column(name) for name in "abc")
    encoder = written(tmp_path / "encoder", linear(MATRIX), array_rows(ROWS, "table", columns=columns))
    assert encoder.columns == columns
    assert encoder.inputs.columns == columns
    assert encoder.preprocess.clipped(np.full((1, 3), 3e38, np.float32), ["a"]).count == 0
    refused = encoder.first_refused(np.array([[0, 1, 2], [0, np.nan, 2]], np.float32))
    assert refused is not None
    assert (refused.row, refused.found) == (1, "a missing value")
    assert encoder.first_refused(ROWS) is None


def test_refuses_a_column_of_words(tmp_path: Path) -> None:
    columns = Column("a"), Column("b"), Column("word", "categorical", ("x", "y"))
    with pytest.raises(DataError, match=r"column word: expected numbers, found categorical values\. Leave it out"):
        written(tmp_path / "encoder", linear(MATRIX), array_rows(ROWS, "table", columns=columns))


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    written(folder, linear(MATRIX), array_rows(ROWS, "rows"))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]
    for name, value in {"input_shape": [4], "model_shape": [2], "latent_dim": 0, "columns": [{}], "more": 1}.items():
        reseal(folder, FORMAT, {**manifest, name: value})
        with pytest.raises(ArtifactError, match=r"manifest\.json"):
            load_onnx(folder)
    reseal(folder, FORMAT, {**manifest, "latent_dim": 5})
    with pytest.raises(ArtifactError, match=r"output: expected float32 \(1, 5\), found float32 \(1, 2\)"):
        load_onnx(folder).encode(ROWS[:1])
    flip_bit(folder / "model.onnx", 99)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        load_onnx(folder)


def test_cuda_needs_an_onnxruntime_that_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    written(folder, linear(MATRIX), array_rows(ROWS, "rows"))
    assert load_onnx(folder, "auto").device == torch.device("cpu")
    with pytest.raises(ConfigError, match="expected an onnxruntime with CUDA"):
        load_onnx(folder, "cuda")


@pytest.mark.parametrize(
    ("rows", "size", "mode"),
    [
        (("batch", 3, 32, 24), (32, 24), "rgb"),
        (("batch", 32, 24, 3), (32, 24), "rgb"),
        (("batch", 1, 32, 24), (32, 24), "grey"),
        (("batch", 3, "height", "width"), "auto", "auto"),
        (("batch", 64), "auto", "auto"),
        (("batch", 7, 32, 24), "auto", "auto"),
    ],
)
def test_photos_get_the_size_that_the_model_reads(tmp_path: Path, rows: Any, size: Any, mode: str) -> None:
    path = save_graph(tmp_path / "model.onnx", graph([FLATTEN], rows=rows))
    settings = reading_settings(path, DataConfig())
    assert (settings.image_size, settings.image_mode) == (size, mode)
    assert reading_settings(path, DataConfig(image_size=8)).image_size == 8


def test_runs_a_model_by_itself(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "model.onnx", linear(MATRIX))
    np.testing.assert_allclose(run_model(path, ROWS), ROWS @ MATRIX, atol=1e-5)
    with pytest.raises(ArtifactError, match="expected a model that onnxruntime can run"):
        run_model(path, ROWS[:, :2])


@pytest.mark.slow
def test_a_module_of_torch_comes_in_through_onnx(tmp_path: Path) -> None:
    """The lines of the documentation."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh())
    path = tmp_path / "module.onnx"
    with warnings.catch_warnings(action="ignore"):  # torch warns about its own code
        module.eval()
        shapes = ({0: "batch"},)
        torch.onnx.export(module, (torch.zeros(2, 3),), path, dynamo=True, dynamic_shapes=shapes, external_data=False)
    folder = tmp_path / "encoder"
    folder.mkdir()
    write_onnx(folder, path, array_rows(ROWS, "rows"))
    wanted = module(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(load_onnx(folder).encode(ROWS), wanted, atol=1e-5)
