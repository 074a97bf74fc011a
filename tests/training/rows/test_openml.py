from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.rows.openml import install_fashion, write_idx
from tests.factories import read_all

# All pixels of row i are i modulo 251, and its label is i modulo 10.
PIXELS = np.broadcast_to((np.arange(70_000) % 251).astype(np.uint8)[:, None], (70_000, 784))
LABELS = (np.arange(70_000) % 10).astype(str)


def installed(folder: Path, pixels: Any = PIXELS, labels: Any = LABELS) -> Path:
    install_fashion(folder, lambda: (pixels, labels))
    return folder


def test_installs_the_same_files_as_the_package(tmp_path: Path) -> None:
    folder = installed(tmp_path / "fashion-mnist")
    for stem, first, count in (("train", 0, 60_000), ("t10k", 60_000, 10_000)):
        rows = open_rows(str(folder / f"{stem}-images-idx3-ubyte.gz"))
        assert (rows.shape, rows.count) == ((28, 28), count)
        chunk = next(rows.chunks(300))
        np.testing.assert_array_equal(chunk.inputs, PIXELS[first : first + 300])
        assert [payload["label"] for payload in chunk.payloads] == [i % 10 for i in range(first, first + 300)]
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (PIXELS[:-1], LABELS[:-1]),
        (PIXELS[:, :-1], LABELS),
        (PIXELS, LABELS[:-1]),
        (PIXELS, np.where(np.arange(70_000) == 3, "4", LABELS)),
        (PIXELS.astype(np.int16) * 2, LABELS),
        (PIXELS.astype(np.int16) - 1, LABELS),
    ],
)
def test_refuses_other_data_and_leaves_no_files(tmp_path: Path, pixels: Any, labels: Any) -> None:
    with pytest.raises(DataError, match="Fashion-MNIST: expected 70,000 rows of 784 bytes"):
        installed(tmp_path / "fashion-mnist", pixels, labels)
    assert not list(tmp_path.iterdir())


@given(values=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=4, max_side=4)))
def test_reads_back_a_written_idx(values: NDArray[np.uint8]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.gz"
        write_idx(path, values)
        assert open_rows(str(path)).shape == values.shape[1:]
        np.testing.assert_array_equal(read_all(path).inputs, values.reshape(len(values), -1))
