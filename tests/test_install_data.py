"""Fashion-MNIST comes from Debian's package, else from OpenML; else a message says what to do."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.rows.openml import install_fashion, write_idx
from lookalike.training.rows.streams import open_idx
from tests.factories import ROOT

SCRIPTS = ROOT / "scripts"

Fetched = tuple[NDArray[np.float64], NDArray[np.str_]]


def test_open_idx_reads_the_written_files(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2), np.uint8)
    write_idx(tmp_path / "few-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "few-labels-idx1-ubyte.gz", np.array([3, 1, 4, 1, 5], np.uint8))
    rows = open_idx(tmp_path / "few-images-idx3-ubyte.gz")
    (chunk,) = rows.chunks()
    assert (rows.count, rows.shape, rows.pixels) == (5, (3, 2), True)
    np.testing.assert_array_equal(chunk.inputs.reshape(5, 3, 2), images)
    assert [payload["label"] for payload in chunk.payloads] == [3, 1, 4, 1, 5]


def test_writes_the_first_60_000_rows_as_the_training_part(tmp_path: Path) -> None:
    pixels, labels = stand_in()
    install_fashion(tmp_path / "cache" / "fashion-mnist", lambda: (pixels, labels))
    for stem, first, count in [("train", 0, 60_000), ("t10k", 60_000, 10_000)]:
        rows = open_idx(tmp_path / "cache" / "fashion-mnist" / f"{stem}-images-idx3-ubyte.gz")
        chunk = next(rows.chunks(3))
        assert (rows.count, rows.shape) == (count, (28, 28))
        np.testing.assert_array_equal(chunk.inputs, pixels[first : first + 3])
        assert [str(payload["label"]) for payload in chunk.payloads] == labels[first : first + 3].tolist()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fashion-mnist"]


@pytest.mark.parametrize("wrong", ["cut short", "in another order", "no bytes"])
def test_refuses_data_other_than_fashion_mnist(tmp_path: Path, wrong: str) -> None:
    pixels, labels = stand_in()
    if wrong == "cut short":
        pixels = pixels[:-1]
    elif wrong == "in another order":
        labels = np.sort(labels)
    else:
        pixels[12, 345] = 256
    with pytest.raises(DataError, match="Fashion-MNIST: expected 70,000 rows of 784 bytes"):
        install_fashion(tmp_path / "fashion-mnist", lambda: (pixels, labels))
    assert list(tmp_path.iterdir()) == []


def test_says_what_to_do_if_nothing_works(tmp_path: Path) -> None:
    done = run_script(tmp_path)
    assert done.returncode == 1
    assert "no apt-get here" in done.stderr
    assert "no .venv/bin/python" in done.stderr
    for advice in ["apt-get install dataset-fashion-mnist", "t10k-labels-idx1-ubyte.gz", "make run DATA=digits"]:
        assert advice in done.stderr


def test_installs_the_package_if_apt_get_exists(tmp_path: Path) -> None:
    tool(tmp_path, "bin/apt-get", 'echo "$@" >> called')
    tool(tmp_path, "bin/id", "echo 0")
    assert run_script(tmp_path).returncode == 0
    assert (tmp_path / "called").read_text().splitlines() == [
        "-qq update",
        "-qq install --yes --no-install-recommends dataset-fashion-mnist",
    ]


def test_uses_sudo_if_not_root(tmp_path: Path) -> None:
    tool(tmp_path, "bin/apt-get", "exit 1")
    tool(tmp_path, "bin/id", "echo 1000")
    tool(tmp_path, "bin/sudo", 'echo "$@" >> called')
    assert run_script(tmp_path).returncode == 0
    assert "install --yes --no-install-recommends dataset-fashion-mnist" in (tmp_path / "called").read_text()


def test_downloads_from_openml_if_the_package_fails(tmp_path: Path) -> None:
    tool(tmp_path, "bin/apt-get", "exit 100")
    tool(tmp_path, "bin/id", "echo 0")
    tool(tmp_path, ".venv/bin/python", 'echo "$@" >> called')
    assert run_script(tmp_path).returncode == 0
    assert (tmp_path / "called").read_text() == "-m lookalike.training.rows.openml\n"


def test_fails_if_openml_fails_too(tmp_path: Path) -> None:
    tool(tmp_path, ".venv/bin/python", "exit 1")
    done = run_script(tmp_path)
    assert done.returncode == 1
    assert "could not be installed" in done.stderr


def run_script(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a copy in `folder` that can call only the programs that `tool` made, `env` and `cat`."""
    shutil.copytree(SCRIPTS, folder / "scripts")
    (folder / "bin").mkdir(exist_ok=True)
    for name in ["env", "cat"]:
        (folder / "bin" / name).symlink_to(shutil.which(name) or name)
    return subprocess.run(
        [folder / "scripts" / "install-data"], env={"PATH": str(folder / "bin")}, capture_output=True, text=True
    )


def tool(folder: Path, path: str, does: str) -> None:
    """Make a stand-in for a program."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(f"#!/bin/sh\n{does}\n")
    (folder / path).chmod(0o755)


def stand_in() -> Fetched:
    """Data of Fashion-MNIST's size with the right number of each label; row i is filled with i modulo 256."""
    numbers = np.arange(70_000)
    return np.repeat(numbers[:, None] % 256, 784, axis=1).astype(np.float64), (numbers % 10).astype(np.str_)
