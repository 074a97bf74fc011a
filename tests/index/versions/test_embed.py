from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lookalike.index.ann.spec import Metric
from lookalike.index.versions.embed import embed, embed_chunks, embed_to_npy, suited
from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows, read_sample
from lookalike.training.tables.columns import Column
from tests.factories import cloud, encoder_at, made_rows

each_metric = pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """(n, 5) -> (n, 3)."""
    return load_encoder(encoder_at(tmp_path_factory.mktemp("encoder") / "encoder", cloud(5, 3)))


@each_metric
def test_embeddings_have_unit_length_for_cosine(tiny_run: Path, metric: Metric) -> None:
    trained = load_encoder(tiny_run / "encoder")
    rows, _ = read_sample(open_rows("digits"), 100, seed=0)
    latent = trained.encode(rows)
    unit = latent / np.sqrt((latent.astype(np.float64) ** 2).sum(axis=1))[:, None]
    np.testing.assert_allclose(embed(trained, rows, metric), unit if metric == "cosine" else latent, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 30, 1_000])
def test_chunks_come_in_order_each_with_its_own_embeddings(encoder: Encoder, batch: int) -> None:
    inputs = cloud(30, 5)
    parts = list(embed_chunks(made_rows(inputs, batch=batch), encoder, "l2"))
    assert [i for chunk, _ in parts for i in chunk.ids] == [f"row-{i}" for i in range(30)]
    np.testing.assert_allclose(np.concatenate([part for _, part in parts]), inputs @ cloud(5, 3), atol=1e-5)


@each_metric
def test_the_file_holds_the_same_embeddings(encoder: Encoder, tmp_path: Path, metric: Metric) -> None:
    inputs = cloud(30, 5)
    embed_to_npy(made_rows(inputs, batch=7), encoder, metric, tmp_path / "e.npy")
    stored = np.load(tmp_path / "e.npy", allow_pickle=False)
    assert (stored.dtype, stored.shape) == (np.float32, (30, 3))
    np.testing.assert_allclose(stored, embed(encoder, inputs, metric), atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["e.npy"]


def test_the_file_has_the_default_permissions(encoder: Encoder, tmp_path: Path) -> None:
    embed_to_npy(made_rows(cloud(3, 5)), encoder, "l2", tmp_path / "e.npy")
    (tmp_path / "usual").touch()
    assert (tmp_path / "e.npy").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("before", [None, b"earlier"])
def test_a_bad_row_leaves_the_old_file(encoder: Encoder, tmp_path: Path, before: bytes | None) -> None:
    inputs, out = cloud(30, 5), tmp_path / "e.npy"
    inputs[20, 3] = np.nan
    if before is not None:
        out.write_bytes(before)
    with pytest.raises(DataError, match="made, row 20, column 3"):
        embed_to_npy(made_rows(inputs, batch=7), encoder, "l2", out)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if before is None else {"e.npy": before})


@pytest.mark.parametrize("width", [4, 6])
def test_rows_of_another_width_are_refused(encoder: Encoder, tmp_path: Path, width: int) -> None:
    rows = made_rows(cloud(3, width))
    told = rf"made: expected rows of shape \(5,\).*, found \({width},\)"
    with pytest.raises(DataError, match=told):
        suited(rows, encoder)
    with pytest.raises(DataError, match=told):
        embed_to_npy(rows, encoder, "l2", tmp_path / "e.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_no_folder_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a path in a folder that exists"):
        embed_to_npy(made_rows(cloud(3, 5)), encoder, "l2", tmp_path / "none" / "e.npy")
    assert list(tmp_path.iterdir()) == []


COLUMNS = (Column("x"), Column("kind", "categorical", ("a", "b")))


@pytest.fixture
def of_table(tmp_path: Path) -> Encoder:
    """x, plus half of x if the category is b: (n, 2) -> (n, 1)."""
    encoder = nn.Linear(5, 1)  # x, is x missing?, a, b, is the category missing?
    encoder.weight, encoder.bias = nn.Parameter(torch.tensor([[1, 0, 0, 0.5, 0]])), nn.Parameter(torch.zeros(1))
    scaling = fit_preprocessor(np.array([[0, 0], [8, 1]], np.float32), "none", COLUMNS)
    (tmp_path / "e").mkdir()
    halves = nn.Sequential(encoder), nn.Sequential(nn.Linear(1, 5))
    write_encoder(
        tmp_path / "e", *halves, preprocess=scaling, header={"input_shape": [2], "latent_dim": 1, "output": "values"}
    )
    return load_encoder(tmp_path / "e")


def test_a_table_is_embedded_by_the_encoders_columns_however_it_was_opened(of_table: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("kind,more,x\nb,9,1\nc,9,2\na,9,\n")
    for rows in (open_rows(str(path)), open_rows(str(path), spec=of_table.inputs)):
        ((chunk, embeddings),) = embed_chunks(rows, of_table, "l2")
        assert embeddings.tolist() == [[1.5], [2], [4]]  # an unknown category; a missing x becomes the mean, 4
        assert chunk.payloads[0] == {"kind": "b", "more": 9, "x": 1}
    assert suited(rows, of_table) is rows


def test_a_table_without_one_of_the_columns_is_refused(of_table: Encoder, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("kind,more\nb,9\n")
    with pytest.raises(DataError, match="column x"):
        suited(open_rows(str(tmp_path / "a.csv")), of_table)


def test_a_table_for_an_encoder_of_arrays_is_its_numbers_without_a_gap(encoder: Encoder, tmp_path: Path) -> None:
    lines = ["a,b,c,d,e,kind", *["1,2,3,4,5,x"] * 3]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (part,) = (part for _, part in embed_chunks(open_rows(str(tmp_path / "a.csv")), encoder, "l2"))
    np.testing.assert_allclose(part[0], np.arange(1, 6) @ cloud(5, 3), atol=1e-5)
    (tmp_path / "a.csv").write_text("\n".join([*lines, "1,,3,4,5,x"]))
    with pytest.raises(DataError, match="row 3, column b"):
        list(embed_chunks(open_rows(str(tmp_path / "a.csv")), encoder, "l2"))


def test_the_encoders_origin_is_subtracted(tmp_path: Path) -> None:
    encoder = load_encoder(encoder_at(tmp_path / "e", np.eye(2, dtype=np.float32), origin=[1.76e9, 0]))
    rows = made_rows(np.array([[1.76e9 + 0.25, 3], [1.76e9 + 31, 4]]))
    ((_, embeddings),) = embed_chunks(rows, encoder, "l2")
    assert embeddings.tolist() == [[0.25, 3], [31, 4]]
    again = suited(suited(rows, encoder), encoder)
    assert next(again.chunks()).inputs.tolist() == [[0.25, 3], [31, 4]]
