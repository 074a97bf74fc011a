"""The notebook runs from top to bottom in a real kernel, and draws its figures."""

import base64
import io
from pathlib import Path
from typing import Any

import jupytext  # type: ignore[import-untyped]
import nbclient
import numpy as np
import pytest
from PIL import Image

from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from tests.factories import ROOT

NOTEBOOK = ROOT / "notebooks" / "explore.py"
FIGURES = ["history", "map", "neighbours", "unseen and noisy", "reconstructions"]


@pytest.mark.slow
def test_makes_a_small_version_without_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKALIKE_STORE", str(tmp_path / "none"))
    text, figures = run_notebook()
    assert f"No version in {tmp_path / 'none'}: making a small store." in text
    assert "version 1: 1,437 items of digits, each of shape (8, 8)" in text
    assert "64 → 16" in text
    assert_drawn(figures)


@pytest.mark.slow
def test_opens_a_store_of_windows_without_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKALIKE_STORE", str(store_of_windows(tmp_path)))
    text, figures = run_notebook()
    assert f"version 1: 120 items of {tmp_path / 'windows.npy'}, each of shape (24,)" in text
    assert "no labels" in text
    assert_drawn(figures)


def test_the_notebook_has_text_cells() -> None:
    cells = jupytext.read(NOTEBOOK).cells
    titles = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert sum(line.startswith("## ") for line in titles) == 6
    assert sum(cell.cell_type == "markdown" for cell in cells) >= len(FIGURES)


def run_notebook() -> tuple[str, list[Image.Image]]:
    """The printed text and the figures; raises the error of a cell."""
    notebook = jupytext.read(NOTEBOOK)
    where = {"metadata": {"path": str(NOTEBOOK.parent.parent)}}
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.output_type == "error"] == []
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    return text, [_decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


def assert_drawn(figures: list[Image.Image]) -> None:
    """Assert that every figure exists, is large enough to read, and is not blank."""
    assert len(figures) == len(FIGURES)
    for name, figure in zip(FIGURES, figures, strict=True):
        pixels = np.asarray(figure.convert("L"))
        assert min(figure.size) >= 250, name
        assert (pixels < 128).mean() > 0.001, f"{name} is blank"


def store_of_windows(folder: Path) -> Path:
    """A champion built from 120 sine waves of 24 values: no pictures, no labels."""
    random = np.random.default_rng(0)
    phase, speed = random.random((120, 1)), random.integers(1, 4, (120, 1))
    windows = np.sin(2 * np.pi * (speed * np.linspace(0, 1, 24) + phase)).astype(np.float32)  # (120, 24)
    np.save(folder / "windows.npy", windows)
    rows = open_rows(str(folder / "windows.npy"))
    train(rows, load_config(None, ["fit.epochs=3", "model.hidden=[16]"]), folder / "run")
    store = Store(folder / "store")
    store.promote(build(rows, folder / "run", store))
    return store.folder


def _decode(encoded: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)), formats=["PNG"])
