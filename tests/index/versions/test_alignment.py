import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy
from numpy.typing import NDArray
from scipy.stats import ortho_group
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.errors import QueryError
from lookalike.index.versions.alignment import churn, compose, fit_map, load_maps, mapped, save_maps
from lookalike.training.errors import ArtifactError
from tests.factories import cloud

METRICS: list[Metric] = ["cosine", "l2", "ip"]
each_metric = pytest.mark.parametrize("metric", METRICS)


def rotation(dim: int, seed: int = 0) -> NDArray[np.float32]:
    made: NDArray[np.float32] = ortho_group.rvs(dim, random_state=seed).astype(np.float32)
    return made


@settings(max_examples=25, deadline=None)
@given(dim=st.integers(2, 12), count=st.integers(80, 200), seed=st.integers(0, 2**31), metric=st.sampled_from(METRICS))
def test_a_rotation_is_recovered_exactly(dim: int, count: int, seed: int, metric: Metric) -> None:
    old = cloud(count, dim, seed) if metric != "cosine" else normalize(cloud(count, dim, seed))
    turn = rotation(dim, seed % 1_000)
    found = fit_map(old, old @ turn, metric)
    assert found.kind == "orthogonal"
    assert found.matrix == pytest.approx(turn, abs=1e-5)
    assert found.recall["orthogonal"] == 1.0
    assert mapped(old, found.matrix, metric) == pytest.approx(old @ turn, abs=1e-4)


@pytest.mark.parametrize(("before", "after"), [(4, 7), (7, 4)])
def test_dimensions_may_differ(before: int, after: int) -> None:
    """A rotation is exact into more dimensions, and into fewer if the other dimensions are 0."""
    low = cloud(300, 4)
    old = low @ rotation(before)[:4] if before > 4 else low
    new = low @ rotation(after, 1)[:4] if after > 4 else low
    found = fit_map(old, new, "l2")
    assert found.matrix.shape == (before, after)
    assert found.matrix.dtype == np.float32
    assert found.recall["orthogonal"] == 1.0
    assert mapped(old, found.matrix, "l2") == pytest.approx(new, abs=1e-4)


def test_a_stretch_selects_the_linear_map() -> None:
    old, stretch = cloud(500, 6), np.zeros((6, 6), np.float32)
    np.fill_diagonal(stretch, [8, 4, 2, 1, 0.5, 0.25])
    found = fit_map(old, old @ (stretch @ rotation(6)), "l2")
    assert found.kind == "linear"
    assert found.recall["linear"] > 0.99 > found.recall["orthogonal"]
    assert found.matrix == pytest.approx(stretch @ rotation(6), abs=1e-2)


@each_metric
def test_recall_equals_the_recall_of_scikit_learn(metric: Metric) -> None:
    old, noise = normalize(cloud(400, 5)), 0.2 * cloud(400, 5, seed=1)
    new = normalize(old @ rotation(5) + noise)
    found = fit_map(old, new, metric)
    order = np.random.default_rng(0).permutation(400)
    asked, fitted = order[:80], order[80:]
    moved = mapped(old[asked], found.matrix, metric)
    near, wanted = (  # new embeddings are of length 1: nearest by each metric alike
        NearestNeighbors(n_neighbors=10).fit(new[fitted]).kneighbors(normalize(rows), return_distance=False)
        for rows in (moved, new[asked])
    )
    if metric == "l2":
        near = NearestNeighbors(n_neighbors=10).fit(new[fitted]).kneighbors(moved, return_distance=False)
    common = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, wanted, strict=True)])
    assert found.asked == 80
    assert found.recall[found.kind] == pytest.approx(float(common), abs=1e-9)
    assert found.recall[found.kind] == max(found.recall.values())
    assert 0.2 < common < 0.95


def test_unrelated_spaces_have_the_recall_of_chance() -> None:
    found = fit_map(cloud(1_000, 6), cloud(1_000, 6, seed=1), "l2")
    assert max(found.recall.values()) == pytest.approx(10 / 800, abs=0.02)


def test_an_old_space_without_some_direction_is_mapped() -> None:
    old = cloud(100, 4)
    old[:, 3] = 0
    for rows in (old, np.zeros_like(old)):
        assert np.isfinite(fit_map(rows, cloud(100, 3, seed=1), "cosine").matrix).all()


@each_metric
def test_churn_equals_the_churn_of_scikit_learn(metric: Metric) -> None:
    old = normalize(cloud(300, 6))
    new = normalize(old + 0.2 * cloud(300, 6, seed=1))
    near, far = (NearestNeighbors(n_neighbors=10).fit(x).kneighbors(return_distance=False) for x in (old, new))
    stayed = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, far, strict=True)])
    assert churn(old, new, metric) == pytest.approx(1 - float(stayed))
    assert 0.1 < churn(old, new, metric) < 0.9


@each_metric
def test_a_rotated_space_has_no_churn(metric: Metric) -> None:
    old = normalize(cloud(500, 6))
    assert churn(old, old, metric) == 0
    assert churn(old, old @ rotation(6), metric) == pytest.approx(0, abs=1e-3)
    assert churn(np.repeat(old[:50], 4, axis=0), np.repeat(old[:50], 4, axis=0)[:, ::-1].copy(), metric) == 0


def test_churn_by_hand() -> None:
    old, new = (np.array(x, np.float32)[:, None] for x in ([0, 1, 3], [0, 2.2, 3]))
    # nearest neighbors before: 0 -> 1, 1 -> 0, 2 -> 1; after: 0 -> 1, 1 -> 2, 2 -> 1
    assert churn(old, new, "l2", k=1) == pytest.approx(1 / 3)
    assert churn(old, new, "l2", k=2) == 0  # with three items, all are neighbors of each other
    assert churn(old[:1], new[:1], "l2") == 0
    assert churn(old[:0], new[:0], "l2") == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(20, 300))
def test_the_order_of_the_items_changes_nothing(seed: int, count: int) -> None:
    old, new = cloud(count, 4, seed), cloud(count, 3, seed + 1)
    order = np.random.default_rng(seed).permutation(count)
    assert churn(old[order], new[order], "l2") == pytest.approx(churn(old, new, "l2"))


def test_maps_are_composed() -> None:
    first, second = rotation(5), cloud(5, 3)
    maps = compose({1: cloud(4, 5)}, 2, second)
    assert list(maps) == [2, 1]
    assert (maps[2] == second).all()
    old = cloud(9, 4, seed=3)
    assert mapped(old, maps[1], "cosine") == pytest.approx(
        mapped(mapped(old, cloud(4, 5), "cosine"), second, "cosine"), abs=1e-5
    )
    assert list(compose({}, 7, first)) == [7]


def test_maps_are_read_as_they_were_written(tmp_path: Path) -> None:
    maps = {12: cloud(4, 3), 7: cloud(9, 3, seed=1)}
    save_maps(tmp_path / "alignment.npz", maps)
    read = load_maps(tmp_path / "alignment.npz", 3)
    zipped(tmp_path / "by hand.npz", "12.npy", entry(maps[12]), zipfile.ZIP_STORED)
    assert load_maps(tmp_path / "by hand.npz", 3)[12].tolist() == maps[12].tolist()
    assert {number: matrix.tolist() for number, matrix in read.items()} == {n: m.tolist() for n, m in maps.items()}
    save_maps(tmp_path / "none.npz", {})
    assert load_maps(tmp_path / "none.npz", 3) == {}


def entry(array: NDArray[np.generic], *, claimed: tuple[int, ...] | None = None) -> bytes:
    file = io.BytesIO()
    header = {"shape": claimed or array.shape, "fortran_order": False, "descr": npy.dtype_to_descr(array.dtype)}
    npy.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}]), allow_pickle=True)
    return file.getvalue()


def zipped(path: Path, name: str, content: bytes, how: int) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr(name, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1.npy", entry(cloud(4, 3), claimed=(1 << 40, 3))),  # 80 bytes, but the header needs 12 TiB
        ("1.npy", entry(cloud(4, 3), claimed=(3, 3))),
        ("1.npy", entry(cloud(4, 3).astype(np.float64))),
        ("1.npy", entry(cloud(4, 2))),
        ("1.npy", entry(cloud(4, 3)[0])),
        ("1.npy", entry(np.full((4, 3), np.nan, np.float32))),
        ("1.npy", entry(cloud(4, 3))[:-1]),
        ("1.npy", b"no array"),
        ("one.npy", entry(cloud(4, 3))),
    ],
)
def test_another_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "alignment.npz"
    zipped(path, name, content, zipfile.ZIP_STORED)
    with pytest.raises(ArtifactError, match="alignment"):
        load_maps(path, 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: zipped(path, "1.npy", entry(cloud(4, 3)), zipfile.ZIP_DEFLATED),
        lambda path: zipped(path, "1.npy", pickled(), zipfile.ZIP_STORED),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = tmp_path / "alignment.npz"
    save_maps(path, {1: cloud(4, 3)})
    damage(path)
    with pytest.raises(ArtifactError, match="alignment"):
        load_maps(path, 3)


def test_refuses_embeddings_that_cannot_be_mapped() -> None:
    with pytest.raises(QueryError, match="n >= 20"):
        fit_map(cloud(19, 3), cloud(19, 3), "l2")
    with pytest.raises(QueryError, match="same items"):
        churn(cloud(30, 3), cloud(29, 3), "l2")
    with pytest.raises(QueryError, match="finite"):
        fit_map(np.full((30, 3), np.inf, np.float32), cloud(30, 3), "l2")
    with pytest.raises(QueryError, match=r"\(n, 3\)"):
        mapped(cloud(2, 4), cloud(3, 5), "l2")


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("value", [100.0, 1e6, -1e12])
def test_one_outlier_of_any_size_hardly_changes_the_map(metric: Metric, value: float) -> None:
    """None of the 160 fitted pairs has more weight than a pair of three times the usual length."""
    turn, old = rotation(4), cloud(200, 4)
    new = old @ turn
    for row in (3, 77):  # at least one of the two pairs is fitted
        old[row], new[row] = value, [-value, value, 0, value]
    found = fit_map(old, new, metric)
    np.testing.assert_allclose(found.matrix, turn, atol=0.15)
    assert found.recall[found.kind] > 0.85
