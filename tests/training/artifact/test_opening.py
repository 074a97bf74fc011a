import json
from pathlib import Path

import pytest

from lookalike.training.artifact.encoder import FORMAT, load_encoder
from lookalike.training.artifact.given_vectors import write_vectors
from lookalike.training.artifact.onnx_encoder import write_onnx
from lookalike.training.artifact.opening import open_encoder
from lookalike.training.errors import ArtifactError
from lookalike.training.rows.arrays import array_rows
from tests.factories import cloud, encoder_at, reseal
from tests.onnx_graphs import linear, save_graph

ROWS = array_rows(cloud(20, 3), "rows")


def test_opens_each_kind(tmp_path: Path) -> None:
    for name in ("none", "onnx"):
        (tmp_path / name).mkdir()
    write_vectors(tmp_path / "none", ROWS, directions=True)
    write_onnx(tmp_path / "onnx", save_graph(tmp_path / "model.onnx", linear(cloud(3, 2))), ROWS)
    encoder_at(tmp_path / "autoencoder", cloud(3, 2))
    for kind in ("none", "onnx", "autoencoder"):
        encoder = open_encoder(tmp_path / kind)
        assert encoder.kind == kind
        assert encoder.digest[:16] in repr(encoder)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    folder = encoder_at(tmp_path / "encoder", cloud(3, 2))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]
    reseal(folder, FORMAT, {**manifest, "kind": "other"})
    with pytest.raises(ArtifactError, match="kind: expected one of autoencoder, onnx, none, found other"):
        open_encoder(folder)


def test_a_loader_refuses_another_kind(tmp_path: Path) -> None:
    write_vectors(tmp_path, ROWS, directions=True)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: expected a file that the manifest lists"):
        load_encoder(tmp_path)
