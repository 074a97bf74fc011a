import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lookalike.index.evaluation.baselines import by_encoder, by_pca, fit_feature_space, recoded
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.artifact.preprocess import build_preprocessor
from lookalike.training.tables.columns import Column, FittedColumn
from tests.factories import cloud, encoder_at


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return load_encoder(encoder_at(tmp_path / "encoder", cloud(6, 3)))


def table(encoder: Encoder, *columns: Column) -> Encoder:
    fitted = tuple(FittedColumn(column, 1, (1,) * len(column.values), high=1.0) for column in columns)
    return dataclasses.replace(encoder, preprocess=build_preprocessor("standard", fitted))


@pytest.mark.parametrize("count", [500, 5])
def test_pca_agrees_with_scikit_learn(encoder: Encoder, count: int) -> None:
    """Also for fewer rows than columns; the sign of a component is arbitrary."""
    rows, queries = cloud(count, 6) * np.array([9, 5, 3, 2, 1, 0.5], np.float32), cloud(7, 6, seed=1)
    unit = fit_feature_space(rows, encoder)
    embedder = by_pca(3, unit, rows)
    exact = PCA(3, svd_solver="full").fit(unit.features(rows).astype(np.float64))
    found, expected = embedder.embed(queries), exact.transform(unit.features(queries))
    assert embedder.name == "PCA-3"
    assert np.abs(found) == pytest.approx(np.abs(expected), abs=1e-3)
    assert embedder.reconstruct is not None
    assert embedder.reconstruct(found) == pytest.approx(exact.inverse_transform(expected), abs=1e-3)


def test_pca_has_at_most_as_many_components_as_columns(encoder: Encoder) -> None:
    rows = cloud(50, 6)
    assert by_pca(32, fit_feature_space(rows, encoder), rows).name == "PCA-6"


def test_the_feature_space_is_fitted_on_the_rows(encoder: Encoder) -> None:
    rows = cloud(400, 6) * 7 + 3
    unit = fit_feature_space(rows, encoder)
    features = unit.features(rows)
    assert features.mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-5)
    assert features.std(axis=0) == pytest.approx(np.ones(6), abs=1e-5)
    picture = dataclasses.replace(encoder, header={**encoder.header, "input_shape": [2, 3]})
    scaled = rows * np.array([1, 2, 3, 4, 5, 6], np.float32)
    together = fit_feature_space(scaled, picture).features(scaled)
    assert together.std() == pytest.approx(1, abs=1e-4)  # all pixels share one deviation
    assert together[:, 5].std() == pytest.approx(6 * together[:, 0].std(), rel=0.2)


def test_embedders_of_encoders_equal_the_encoders(encoder: Encoder) -> None:
    rows = cloud(30, 6)
    unit = fit_feature_space(rows, encoder)
    embedder = by_encoder("a name", encoder, unit)
    assert (embedder.name, embedder.embed(rows).tolist()) == ("a name", encoder.encode(rows).tolist())
    assert embedder.reconstruct is not None
    assert embedder.reconstruct(encoder.encode(rows)).tolist() == unit.features(encoder.reconstruct(rows)).tolist()


def test_recodes_rows_column_by_column(encoder: Encoder) -> None:
    source = table(encoder, Column("weight"), Column("color", "categorical", ("blue", "red")), Column("retyped"))
    target = table(
        encoder,
        Column("color", "categorical", ("amber", "red", "teal")),
        Column("weight"),
        Column("new"),
        Column("retyped", "boolean", ("false", "true")),
    )
    rows = np.array([[1.5, 0, 7], [2.5, 1, 8], [np.nan, np.nan, 9]], np.float32)
    nan = np.nan
    expected = np.array([[nan, 1.5, nan, nan], [1, 2.5, nan, nan], [nan, nan, nan, nan]], np.float32)
    np.testing.assert_array_equal(recoded(rows, source, target), expected)
    assert recoded(rows, source, source) is rows
    assert recoded(rows, encoder, source) is rows
