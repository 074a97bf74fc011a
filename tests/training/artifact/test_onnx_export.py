"""Encoders of each kind of layer and of column, exported and compared with the original."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.export import fold
from lookalike.training.artifact.onnx_encoder import run_model
from lookalike.training.artifact.onnx_export import export_onnx
from lookalike.training.artifact.onnx_file import read_model
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import ModelConfig
from lookalike.training.errors import DataError, ExportError
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.descriptors import Gradients, fit_descriptor
from lookalike.training.tables.columns import Column
from tests.factories import cloud, encoder_at

pytestmark = pytest.mark.slow
COLUMNS = (
    Column("number"),
    Column("gaps"),
    Column("word", "categorical", ("a", "b", "c")),
    Column("flag", "boolean", ("false", "true")),
)


def untrained(
    folder: Path,
    rows: NDArray[np.float32],
    model: ModelConfig,
    *,
    shape: tuple[int, ...],
    columns: tuple[Column, ...] = (),
) -> Encoder:
    preprocess = fit_preprocessor(rows, "standard", columns)
    torch.manual_seed(0)
    made = Autoencoder(shape if not columns else (preprocess.features,), 3, model).eval()
    folder.mkdir()
    header = {"input_shape": list(shape), "latent_dim": 3, "output": "values"}
    write_encoder(folder, fold(made.encoder), fold(made.decoder), preprocess=preprocess, header=header)
    return load_encoder(folder)


def exported(encoder: Encoder, out: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The embeddings of rows by the file."""
    export_onnx(encoder, out, wanted=encoder.encode(rows), probe=rows, unit_length=False)
    return run_model(out, rows.reshape(len(rows), *encoder.input_shape))


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
def test_a_stack_of_layers(tmp_path: Path, activation: str) -> None:
    rows = cloud(40, 12)
    config = ModelConfig(hidden=(8,), latent_dim=3, activation=activation)  # type: ignore[arg-type]
    encoder = untrained(tmp_path / "encoder", rows, config, shape=(12,))
    rows[0, 0] = 1e30  # outside the known range, so that it is clipped
    out = tmp_path / "model.onnx"
    np.testing.assert_allclose(exported(encoder, out, rows), encoder.encode(rows), atol=1e-5)
    assert read_model(out).dims == (12,)
    assert read_model(out).batch is None


def test_convolutions(tmp_path: Path) -> None:
    rows = cloud(20, 64)
    config = ModelConfig(kind="conv", channels=(4, 6), latent_dim=3)
    encoder = untrained(tmp_path / "encoder", rows, config, shape=(8, 8))
    out = tmp_path / "model.onnx"
    np.testing.assert_allclose(exported(encoder, out, rows), encoder.encode(rows), atol=1e-5)
    assert read_model(out).dims == (8, 8)


def test_a_table_with_categories_and_missing_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=60), rng.normal(size=60), rng.integers(0, 3, 60), rng.integers(0, 2, 60)], axis=1)
    rows = rows.astype(np.float32)
    rows[::7, 1] = np.nan
    rows[::11, 2] = np.nan
    encoder = untrained(tmp_path / "encoder", rows, ModelConfig(hidden=(8,), latent_dim=3), shape=(4,), columns=COLUMNS)
    out = tmp_path / "model.onnx"
    np.testing.assert_allclose(exported(encoder, out, rows), encoder.encode(rows), atol=1e-5)
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load_model(str(out)).metadata_props}
    assert facts["lookalike.columns"] == ["number", "gaps", "word", "flag"]
    assert "lookalike.base" not in facts


def test_the_bases_of_columns_are_in_the_metadata(tmp_path: Path) -> None:
    columns = (Column("at", base=1_700_000_000_000_000_000), Column("x"))
    rows, out = cloud(20, 2), tmp_path / "model.onnx"
    config = ModelConfig(hidden=(8,), latent_dim=2)
    exported(untrained(tmp_path / "encoder", rows, config, shape=(2,), columns=columns), out, rows)
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load_model(str(out)).metadata_props}
    assert facts["lookalike.base"] == [1_700_000_000_000_000_000, 0]


def test_the_origin_is_in_the_metadata(tmp_path: Path) -> None:
    encoder = load_encoder(encoder_at(tmp_path / "encoder", cloud(3, 2), origin=[1e9, 0, 5]))
    rows, out = cloud(9, 3), tmp_path / "model.onnx"
    np.testing.assert_allclose(exported(encoder, out, rows), rows @ cloud(3, 2), atol=1e-5)
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load_model(str(out)).metadata_props}
    assert facts["lookalike.origin"] == [1e9, 0, 5]


def test_a_file_that_differs_never_appears(tmp_path: Path) -> None:
    encoder, rows = load_encoder(encoder_at(tmp_path / "encoder", cloud(3, 2))), cloud(9, 3)
    out = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="exported embeddings: expected at most"):
        export_onnx(encoder, out, wanted=encoder.encode(rows) + 1, probe=rows, unit_length=False)
    assert not out.exists()
    out.write_bytes(b"old")
    with pytest.raises(ExportError):
        export_onnx(encoder, out, wanted=encoder.encode(rows[::-1].copy()), probe=rows, unit_length=True)
    assert out.read_bytes() == b"old"
    with pytest.raises(DataError, match="expected a path for a file"):
        export_onnx(encoder, tmp_path, wanted=rows, probe=rows, unit_length=False)


@pytest.mark.parametrize(("shape", "channels"), [((8, 8), 1), ((9, 10, 3), 3)])
def test_gradients(tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
    width = shape[0] * shape[1] * channels
    rows = cloud(20, width)
    preprocess = fit_preprocessor(rows, "center")
    layer = fit_descriptor(
        Gradients(shape[0], shape[1], channels, 4),
        preprocess.apply(torch.from_numpy(rows)),
        preprocess.offset * preprocess.factor,
    )
    made = Autoencoder(shape, 3, ModelConfig(hidden=(8,)), descriptor=layer, targets=5).eval()
    (tmp_path / "encoder").mkdir()
    header = {"input_shape": list(shape), "latent_dim": 3, "output": "values"}
    write_encoder(tmp_path / "encoder", fold(made.encoder), fold(made.decoder), preprocess=preprocess, header=header)
    encoder = load_encoder(tmp_path / "encoder")
    with torch.inference_mode():
        live = made.encoder(preprocess.apply(torch.from_numpy(rows))).numpy()
    np.testing.assert_allclose(encoder.encode(rows), live, atol=1e-5)
    np.testing.assert_allclose(exported(encoder, tmp_path / "model.onnx", rows), live, atol=1e-5)
