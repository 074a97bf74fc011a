"""The part of `benchmarks.quality` about windows of recordings."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.quality_data import WINDOWS, windows
from benchmarks.quality_figures import OURS, RAW, Figures, Scores, ahead, figure_rows
from benchmarks.quality_peers import channel_scaled, dtw, each_scaled, mini_rocket, pca
from benchmarks.quality_runs import encoded, trained
from benchmarks.quality_scores import nearest, nearest_by, precision
from benchmarks.report import Row

__all__ = ["windows_rows"]

K = 5
NAME, MEAN = "precision@5", "windows (mean)"
PCA, ROCKET, DTW = "PCA", "MiniRocket + PCA", "dynamic time warping"
RAW_LEVELS = "raw rows with their levels"
"""Channels are scaled over all items, and not in each window by itself."""
GAIN = 0.05


def windows_rows(figures: Figures, seeds: range, folder: Path) -> Iterator[Row]:
    """Measure the sets of windows, and yield the lines."""
    for seed in seeds:
        for name in WINDOWS:
            case = f"windows {name}"
            figures.take(case, "all", seed, partial(_measure, name, folder, seed, warped=seed == seeds[0]))
        figures.take(MEAN, "all", seed, partial(_mean, figures, seed))
    yield from figure_rows(figures, MEAN, NAME)
    yield ahead(figures, MEAN, NAME, RAW, least=GAIN)
    yield ahead(figures, MEAN, NAME, ROCKET, least=0.0)
    for name in WINDOWS:
        yield from figure_rows(figures, f"windows {name}", NAME)
        yield ahead(figures, f"windows {name}", NAME, RAW, least=0.0)


def _mean(figures: Figures, seed: int) -> dict[str, Scores]:
    """The mean over the sets, of each method that is measured on all of them with each seed."""
    return {
        method: {NAME: float(np.mean([figures.values(f"windows {name}", NAME, method)[seed] for name in WINDOWS]))}
        for method in (OURS, RAW, RAW_LEVELS, PCA, ROCKET)
    }


def _measure(name: str, folder: Path, seed: int, *, warped: bool) -> dict[str, Scores]:
    """The scores of all methods on one set; `warped`: also of dynamic time warping, except on the smartwatch."""
    split = windows(name, folder)
    run = trained(split.rows, seed)
    print(f"{split.name}, seed {seed}: trained in {run.seconds:.0f} s")
    channels = split.shape[1]
    scaled = channel_scaled(split.items, channels)
    items, queries = scaled(split.items), scaled(split.queries)
    dim = run.encoder.latent_dim
    components, rocket = pca(items, dim, seed), mini_rocket(items, channels, seed)
    known = rocket(items)
    rocket_components = pca(known, dim, seed)
    found = {
        OURS: nearest(encoded(run.encoder, split.rows), encoded(run.encoder, split.asked), K),
        RAW: nearest(each_scaled(split.items, channels), each_scaled(split.queries, channels), K, cosine=False),
        RAW_LEVELS: nearest(items, queries, K, cosine=False),
        PCA: nearest(components(items), components(queries), K),
        ROCKET: nearest(rocket_components(known), rocket_components(rocket(queries)), K),
    }
    if warped and name != "watch":
        found[DTW] = nearest_by(dtw(items, queries, channels), K)
    return {method: {NAME: precision(each, split.item_labels, split.query_labels)} for method, each in found.items()}
