"""The part of `benchmarks.quality` about tables."""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality_data import Table, split_table, tables
from benchmarks.quality_figures import OURS, RAW, Figures, Scores, ahead, difference, figure_rows
from benchmarks.quality_peers import forest, gower, pca
from benchmarks.quality_runs import encoded, trained
from benchmarks.quality_scores import nearest, nearest_by, precision
from benchmarks.report import Bar, Row, row
from lookalike.training.array_types import Doubles, Floats, Integers
from lookalike.training.rows import open_rows

__all__ = ["tables_rows"]

K = 10
NAME, MEAN = "precision@10", "tables (mean)"
PCA, FOREST, GOWER, RAW_COSINE = "PCA", "random trees + PCA", "Gower's distance", "raw rows by cosine"
SHARE = 0.75


def tables_rows(figures: Figures, seeds: range, folder: Path) -> Iterator[Row]:
    """Measure the tables, and yield the lines."""
    found = tables()
    for seed in seeds:
        for table in found:
            figures.take(f"tables {table.name}", "all", seed, partial(_measure, table, seed))
        figures.take(MEAN, "all", seed, partial(_mean, figures, [table.name for table in found], seed))
    yield from figure_rows(figures, MEAN, NAME)
    for peer in (RAW, PCA):
        yield ahead(figures, MEAN, NAME, peer, least=0.0)
        share = _share_not_behind(figures, [table.name for table in found], peer)
        yield row(f"tables: share not behind {peer}", "share", ours=share, bar=Bar("ours", ">=", SHARE))
    for table in found:
        yield _table_row(figures, f"tables {table.name}")


def _mean(figures: Figures, names: list[str], seed: int) -> dict[str, Scores]:
    """The mean over the tables, by method."""
    return {
        method: {NAME: statistics.fmean(figures.values(f"tables {name}", NAME, method)[seed] for name in names)}
        for method in figures.methods(f"tables {names[0]}", NAME)
    }


def _share_not_behind(figures: Figures, names: list[str], peer: str) -> float:
    """The share of tables whose mean difference, split by split, is at least minus one spread."""
    results = []
    for name in names:
        ours, other = (figures.values(f"tables {name}", NAME, method) for method in (OURS, peer))
        mean, spread = difference(ours, other)
        results.append(mean >= -spread)
    return statistics.fmean(results)


def _table_row(figures: Figures, case: str) -> Row:
    """Ours, PCA and the raw rows; the spread belongs to ours."""
    ours, peer, floor = (list(figures.values(case, NAME, method).values()) for method in (OURS, PCA, RAW))
    spread = statistics.stdev(ours) if len(ours) > 1 else None
    mine, other, least = map(statistics.fmean, (ours, peer, floor))
    return row(f"{case}: {NAME}", "share", ours=mine, peer=other, floor=least, spread=spread)


def _measure(table: Table, seed: int) -> dict[str, Scores]:
    """The scores of all methods on one split of a table."""
    items, queries, item_labels, query_labels = split_table(table, seed)
    rows, asked_rows = (open_rows(part.reset_index(drop=True)) for part in (items, queries))
    run = trained(rows, seed)
    print(f"tables {table.name}, seed {seed}: trained in {run.seconds:.0f} s")
    mine, my_queries = encoded(run.encoder, rows), encoded(run.encoder, asked_rows)
    known, asked = standardized(items, queries)
    components, trees = pca(known, run.encoder.latent_dim), forest(known, run.encoder.latent_dim, seed)
    found = {
        OURS: nearest(mine, my_queries, K),
        RAW: nearest(known, asked, K, cosine=False),
        RAW_COSINE: nearest(known, asked, K),
        PCA: nearest(components(known), components(asked), K),
        FOREST: nearest(trees(known), trees(asked), K),
        GOWER: nearest_by(gower(*columns(items, queries)), K),
    }
    return {method: {NAME: precision(each, item_labels, query_labels)} for method, each in found.items()}


def columns(items: Any, queries: Any) -> tuple[tuple[Doubles, Integers], tuple[Doubles, Integers]]:
    """Return the numbers and the codes of the categories of two DataFrames, as `gower` reads them."""
    frames = (items.drop(columns="label"), queries.drop(columns="label"))
    numeric = [dtype.kind in "biuf" for dtype in frames[0].dtypes]
    names = frames[0].columns
    numbers = [frame[names[numeric]].to_numpy(np.float64) for frame in frames]
    codes = [np.empty((len(frame), 0), np.int64) for frame in frames]
    for name in names[np.invert(numeric)]:
        kinds = {kind: code for code, kind in enumerate(frames[0][name].dropna().unique())}
        kinds |= {kind: len(kinds) + code for code, kind in enumerate(set(frames[1][name].dropna()) - kinds.keys())}
        for place, frame in enumerate(frames):
            column = np.array([kinds.get(kind, -1) for kind in frame[name]], np.int64)
            codes[place] = np.column_stack([codes[place], column])
    return (numbers[0], codes[0]), (numbers[1], codes[1])


def standardized(items: Any, queries: Any) -> tuple[Floats, Floats]:
    """Return two DataFrames as numbers with the mean 0 and the deviation 1 of the items, without their labels.

    A missing number is the mean. A category is 1 / sqrt(2) in the column of its kind among the items and 0 in the
    others, so that two kinds differ by 1.
    """
    (numbers, codes), (asked, asked_codes) = columns(items, queries)
    with np.errstate(invalid="ignore"):
        mean, deviation = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
    scaled = [np.nan_to_num((part - mean) / np.where(deviation > 0, deviation, 1.0)) for part in (numbers, asked)]
    for place in range(codes.shape[1]):
        kinds = np.unique(codes[:, place][codes[:, place] >= 0])
        for number, part in enumerate((codes, asked_codes)):
            scaled[number] = np.hstack([scaled[number], (part[:, place, None] == kinds) / np.sqrt(2)])
    return scaled[0].astype(np.float32), scaled[1].astype(np.float32)
