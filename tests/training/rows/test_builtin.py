import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lookalike.training.rows import open_rows
from lookalike.training.rows.builtin import fashion_folders
from tests.factories import read_all


def test_digits_equal_scikit_learns_and_ids_are_positions_there() -> None:
    pixels, labels = load_digits(return_X_y=True)
    for name in ("digits", "digits:test"):
        chunk = read_all(name, 100)
        numbers = [int(i) for i in chunk.ids]
        np.testing.assert_array_equal(chunk.inputs, pixels[numbers])
        assert [payload["label"] for payload in chunk.payloads] == labels[numbers].tolist()


def test_the_parts_of_digits_are_complete_and_disjoint() -> None:
    train, test = (set(read_all(name).ids) for name in ("digits", "digits:test"))
    assert (len(train), len(test)) == (1_437, 360)
    assert train | test == {str(i) for i in range(1_797)}


def test_the_split_of_digits_is_stratified() -> None:
    train, test = (
        np.bincount([payload["label"] for payload in read_all(name).payloads]) for name in ("digits", "digits:test")
    )
    np.testing.assert_allclose(test, (train + test) * 360 / 1_797, atol=1)


def test_the_split_of_digits_never_changes() -> None:
    # The first ids of the split when it was fixed.
    assert read_all("digits:test").ids[:10] == ["21", "24", "28", "34", "35", "37", "39", "42", "45", "51"]


@pytest.mark.parametrize(
    ("name", "count", "stem", "labels"),
    [
        ("fashion-mnist", 60_000, "train", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
        ("fashion-mnist:test", 10_000, "t10k", [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
    ],
)
def test_fashion_mnist_has_its_known_counts_labels_and_pixels(
    name: str, count: int, stem: str, labels: list[int]
) -> None:
    rows = open_rows(name)
    assert (rows.name, rows.shape, rows.count, rows.pixels) == (name, (28, 28), count, True)
    chunk = next(rows.chunks(10))
    assert [payload["label"] for payload in chunk.payloads] == labels
    (path,) = [p for folder in fashion_folders() if (p := folder / f"{stem}-images-idx3-ubyte.gz").exists()][:1]
    with gzip.open(path) as stream:
        stream.read(16)
        np.testing.assert_array_equal(chunk.inputs, np.frombuffer(stream.read(7_840), np.uint8).reshape(10, 784))


def test_also_searches_the_users_cache_for_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fashion_folders()[1] == tmp_path / "lookalike" / "fashion-mnist"
