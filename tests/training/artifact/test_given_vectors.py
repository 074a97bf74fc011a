import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike.training.artifact.encoder import FORMAT
from lookalike.training.artifact.given_vectors import load_vectors, write_vectors
from lookalike.training.artifact.row_encoder import MAX_DIM
from lookalike.training.errors import ArtifactError, ConfigError, DataError
from lookalike.training.rows.arrays import array_rows
from tests.factories import cloud, reseal

VECTORS = cloud(4, 3)
ZEROS = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32)


def written(folder: Path, *, directions: bool = True) -> Path:
    folder.mkdir()
    write_vectors(folder, array_rows(VECTORS, "vectors"), directions=directions)
    return folder


def test_a_row_is_its_own_embedding(tmp_path: Path) -> None:
    encoder = load_vectors(written(tmp_path / "a"))
    assert (encoder.kind, encoder.embeds, encoder.input_shape, encoder.latent_dim) == ("none", False, (3,), 3)
    latent, errors = encoder.encode_with_errors(VECTORS)
    assert np.array_equal(latent, VECTORS)
    assert not np.shares_memory(latent, VECTORS)
    assert errors is None
    assert encoder.preprocess.clipped(np.full((1, 3), -3e38, np.float32), ["a"]).count == 0
    assert encoder.inputs.vectors
    assert encoder.device == torch.device("cpu")
    with encoder.warming():
        assert encoder.encode(VECTORS[:0]).shape == (0, 3)


def test_a_vector_of_zeros_has_no_direction(tmp_path: Path) -> None:
    refused = load_vectors(written(tmp_path / "cosine")).first_refused(ZEROS)
    assert refused is not None
    assert (refused.row, refused.found) == (1, "zeros only")
    assert load_vectors(written(tmp_path / "l2", directions=False)).first_refused(ZEROS) is None


def test_the_same_vectors_have_the_same_digest(tmp_path: Path) -> None:
    """A build that is interrupted continues, because its key has the digest."""
    first, again, other = written(tmp_path / "a"), written(tmp_path / "b"), written(tmp_path / "c", directions=False)
    assert load_vectors(first).digest == load_vectors(again).digest != load_vectors(other).digest


def test_refuses_rows_that_are_no_vectors(tmp_path: Path) -> None:
    pictures = array_rows(cloud(4, 6), "pictures", shape=(2, 3))
    with pytest.raises(DataError, match=r"expected vectors of 1 to 65,536 numbers, found rows of shape \(2, 3\)"):
        write_vectors(tmp_path, pictures, directions=True)
    long = array_rows(np.zeros((1, MAX_DIM + 1), np.float32), "long")
    with pytest.raises(DataError, match=r"found rows of shape \(65537,\)"):
        write_vectors(tmp_path, long, directions=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("input_shape", [4]), ("input_shape", [3, 1]), ("latent_dim", 1 << 20), ("directions", 1), ("kind", "onnx")),
        *(("more", 1), ("config", [])),
    ],
)
def test_a_wrong_field_is_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    folder = written(tmp_path / "a")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]
    reseal(folder, FORMAT, {**manifest, name: value})
    with pytest.raises(ArtifactError, match=name):
        load_vectors(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device"):
        load_vectors(written(tmp_path / "a"), "cuda")
