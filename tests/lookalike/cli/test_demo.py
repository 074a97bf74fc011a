import io
import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lookalike.cli.demo import run_demo
from lookalike.index.versions.store import Store
from tests.factories import blobs
from tests.lookalike.helpers import run, save
from tests.service.process import running

COUNT = 40
"""Few rows, so that the training is fast."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("demo") / "rows.npy", blobs(COUNT, 4))


@pytest.fixture(scope="module")
def shown(data: Path) -> Path:
    """The store of a demo. Its name has characters that a shell and rich would misinterpret without quoting."""
    store = data.parent / "a store [of] rows"
    done = run("demo", data, "--store", store, "--no-serve")
    assert done.code == 0, done.err
    assert "checkpoint" not in done.err
    (store / "printed").write_text(done.out)
    return store


def test_prints_the_table_and_the_version(shown: Path, data: Path) -> None:
    lines = (shown / "printed").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert [row[0] for row in table] == ["raw rows", "PCA-4", "denoising"]
    assert [row[4] for row in table] == ["16", "16", "64"]
    assert table[0][1] == "0.0000"
    assert {row[2] for row in table} == {"no labels"}
    assert lines[-1] == f"version 1 of {data} built, verified and promoted in {shown}"


def test_writes_a_run_a_champion_and_a_query(shown: Path) -> None:
    version = Store(shown).open_champion()
    assert len(version.items) == COUNT
    kinds = {
        run.name: json.loads((run / "encoder" / "manifest.json").read_text())["config"]["corruption"]["kind"]
        for run in (shown / "runs").iterdir()
    }
    assert kinds == {"denoising": "gaussian"}
    query = json.loads((shown / "query.json").read_text())
    assert np.shape(query["inputs"]) == (1, 4)


def test_the_printed_curl_command_works(shown: Path, data: Path) -> None:
    """A second demo in the same store trains nothing again, and adds a version."""
    before = (shown / "runs" / "denoising" / "encoder" / "manifest.json").read_bytes()
    with running("demo", str(data), "--store", str(shown), "--port", "0") as process:
        assert process.popen.stdout is not None
        line = process.popen.stdout.readline()
        assert line.startswith(f"curl -s {process.url}/search ")
        answer = json.loads(subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=30).stdout)
        assert process.stop()[0] == 0
    assert answer["version"] == 2
    assert len(answer["results"][0]["hits"]) == 3
    assert (shown / "runs" / "denoising" / "encoder" / "manifest.json").read_bytes() == before


def test_uses_labels_to_score_the_encoders(tmp_path: Path) -> None:
    """Rows of one label point in one direction, so all neighbors of a row have its label."""
    inputs = 9 * np.eye(3)[np.arange(45) % 3] + np.random.default_rng(0).random((45, 3))
    lines = [f"{a},{b},{c},{number % 3}" for number, (a, b, c) in enumerate(inputs)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,label", *lines]))
    out = io.StringIO()
    query = run_demo(str(tmp_path / "rows.csv"), tmp_path / "store", [], Console(file=out, width=200))
    raw = next(line for line in out.getvalue().splitlines() if "preprocessed rows" in line)
    assert [cell.strip() for cell in raw.split("│")][3] == "1.000"
    assert "input: a (number), b (number), c (number)" in out.getvalue()
    assert query == tmp_path / "store" / "query.json"
