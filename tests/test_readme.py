"""The README runs: its commands in a shell, its Python as a program, and its tables equal the measured results."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lookalike.cli.app import app
from tests.factories import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FAST = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=FAST, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_run_as_written(tmp_path: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("lookalike ")]
    assert len(lines) == 16
    printed: dict[str, str] = {}
    for line in lines:
        words = line.partition("#")[0].split()
        short = ["--set", "fit.epochs=5"] if words[1] == "train" else []
        printed[words[1]] = run([sys.executable, "-m", *words, *short], tmp_path)
    assert printed["search"].startswith('{"query": ')
    assert printed["import"] == "360 rows imported, 0 were imported before\n"
    assert printed["export"].startswith("1,797 items")
    assert printed["compact"] == "champion: version 2\n"
    assert "rows: 1,797 of digits and the changes up to 360: 360 new" in printed["retrain"]
    assert "learning-rate-too-high (likely)" in printed["doctor"]
    assert "--set optimizer.lr=" in printed["rates"]


@pytest.mark.slow
def test_the_python_examples_run(tmp_path: Path) -> None:
    chain, estimator, _ = blocks("python")  # tests/service/client/test_clients.py runs the third, which calls a service
    assert len(re.findall(r"'\d+'", run([sys.executable, "-c", chain], tmp_path))) == 3
    assert float(run([sys.executable, "-c", estimator], tmp_path)) > 0.8


def test_both_make_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("run", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_readme_names_every_command() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    commands |= {group.name or "" for group in app.registered_groups}
    (line,) = re.findall(r"`lookalike demo`.*?`serve`", README, re.DOTALL)
    assert commands == set(re.findall(r"`(?:lookalike )?([\w-]+)`", line))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_has_an_existing_target(target: str) -> None:
    assert (ROOT / target).exists()


def test_help_describes_each_command() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for command in app.registered_commands:
        assert command.callback is not None
        assert (command.callback.__doc__ or "").split(".")[0][:30] in shown


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("raw rows", "raw rows"),
        ("PCA-16", "PCA"),
        ("oriented gradients of scikit-image and PCA-16", "RootHOG + PCA"),
        ("pythae's autoencoder", "pythae's AE"),
        ("an autoencoder of the pixels alone", "the former configuration"),
        ("**Lookalike**", "ours"),
    ],
)
def test_the_table_equals_the_benchmark_results(name: str, method: str) -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text(encoding="utf-8"))
    rows = {row["claim"]: row for row in results["rows"]}
    found = [
        rows[f"digits (own split): precision@10, {queries}, {method}"]
        for queries in ("clean", "noisy", "moved by 1 pixel")
    ]
    figures = [next(row[of] for of in ("ours", "peer", "floor") if row[of] is not None) for row in found]
    assert f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) in README


@pytest.mark.parametrize("name", ["emoji", "watch", "flights", "text", "keel"])
def test_the_rows_of_real_data_equal_the_results(name: str) -> None:
    path = ROOT / "benchmarks" / "results" / f"real_{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    rows = rows[: len(rows) // 3 * 3]  # the last row of the tables is a count
    for quality, time, memory in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        data, _, items = quality["claim"].rpartition(": label precision@5 of ")
        pca = "" if data == "text, its embeddings" else f"{quality['peer']:.3f}"  # its peer in the report is no PCA
        figures = [
            f"{quality['ours']:.3f}",
            pca,
            f"{quality['floor']:.3f}",
            f"{time['ours']:.0f}",
            f"{memory['ours']:.1f}",
        ]
        line = " | ".join(["", data, items.removesuffix(" items"), *figures, ""]).strip()
        assert re.sub(r"\|\s+\|", "| |", line) in README
