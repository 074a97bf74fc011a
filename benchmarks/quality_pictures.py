"""The parts of `benchmarks.quality` about pictures: Fashion-MNIST, digits and emoji."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.quality_data import Split, digits, emoji, fashion, own_digits
from benchmarks.quality_figures import OURS, RAW, Figures, Scores, ahead, figure_rows
from benchmarks.quality_peers import Embed, pca, pythae, raw, root_hog
from benchmarks.quality_runs import FORMER, encoded, single_row_us, trained
from benchmarks.quality_scores import accuracy, eight_bits, moved, nearest, noisy, precision, recall_same, unit
from benchmarks.report import Bar, Row, row
from lookalike.training.array_types import Floats, Integers
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.evaluation.untrained import untrained
from lookalike.training.rows import read_sample
from lookalike.training.rows.arrays import array_rows

__all__ = ["digits_rows", "emoji_rows", "fashion_rows"]

K = 10
SIGMA = 0.3
CLEAN, NOISY, MOVED, MOVED_TWICE = (
    *("precision@10, clean", "precision@10, noisy"),
    *("precision@10, moved by 1 pixel", "precision@10, moved by 2 pixels"),
)
ACCURACY, ERROR, CATEGORY = "10-NN accuracy", "reconstruction error", "precision@10 of the category"
RECALLS = {1: "recall@1 of the same emoji", 10: "recall@10 of the same emoji"}
WIDE_CLEAN = "precision@10, clean, 128 numbers of 8 bits"
TRAINING, ENCODING = "training", "encoding one row"
FORMER_NAME, UNTRAINED = "the former configuration", "the untrained encoder"
PCA, HOG = "PCA", "RootHOG + PCA"
PYTHAE = ("pythae's AE", "pythae's VAE")
FASHION_BARS = {CLEAN: 0.875, NOISY: 0.845, MOVED: 0.870, MOVED_TWICE: 0.855, ACCURACY: 0.910}
DIGITS_BARS = {CLEAN: 0.970, NOISY: 0.915, MOVED: 0.955}
WIDE, WIDE_BAR = 128, 0.885
DIMENSIONS = {"fashion": 32, "digits": 16, "emoji": 32}
CELLS = {"fashion": 4, "digits": 2, "emoji": 4}
PYTHAE_EPOCHS = {"fashion": 10, "digits": 150, "emoji": 50}
"""10, or about as many steps as ours."""


@dataclass
class Peers:
    """The peers of one split, each fitted once: none depends on the seed of a training run."""

    split: Split
    dim: int
    cell: int
    _fitted: dict[str, tuple[Embed, Floats]] = field(default_factory=dict)
    """By name: the embedding, and the embedded items."""

    def scores(self, name: str, seed: int) -> dict[str, Scores]:
        """Return the scores of a peer under the noise and the moves of the seed."""
        embed, items = self._fit(name)
        return {name: _judged(self.split, items, embed, seed)}

    def wide_scores(self, name: str) -> dict[str, Scores]:
        """Return the precision of the first WIDE components of a peer, rounded to 8 bits."""
        base, rows = self._described(name)
        components = pca(rows, WIDE)
        return {name: _wide(self.split, components(rows), components(base(self.split.queries)))}

    def _fit(self, name: str) -> tuple[Embed, Floats]:
        if name not in self._fitted:
            base, rows = self._described(name)
            components = raw if name == RAW else pca(rows, self.dim)
            self._fitted[name] = (lambda queries: components(base(queries))), components(rows)
        return self._fitted[name]

    def _described(self, name: str) -> tuple[Embed, Floats]:
        """The features of a peer, and the features of the items."""
        base = root_hog(self.split.shape, self.split.greatest, self.cell) if name.startswith(HOG) else raw
        return base, base(self.split.items)


def fashion_rows(figures: Figures, seeds: range, folder: Path) -> Iterator[Row]:
    """Measure Fashion-MNIST, and yield its lines."""
    split = fashion()
    _measure(figures, "fashion", split, seeds)
    peers = Peers(split, DIMENSIONS["fashion"], CELLS["fashion"])
    for seed in seeds:
        figures.take("fashion", "ours, wide", seed, partial(_wide_ours, split, seed))
    for name in (PCA, HOG):
        figures.take("fashion", f"{name}, wide", seeds[0], partial(peers.wide_scores, name))
    for name, limit in FASHION_BARS.items():
        yield from figure_rows(figures, "fashion", name, bar=Bar("ours", ">=", limit))
    yield from figure_rows(figures, "fashion", WIDE_CLEAN, bar=Bar("ours", ">=", WIDE_BAR))
    yield from figure_rows(figures, "fashion", ERROR, "share of the variance")
    yield from figure_rows(figures, "fashion", TRAINING, "s", bar=Bar("ours", "<=", 300))
    yield from figure_rows(figures, "fashion", ENCODING, "us")
    for name, measured, limit in ((TRAINING, "s", 4.0), (ENCODING, "us", 2.0)):
        mine, former = (statistics.fmean(figures.values("fashion", name, of).values()) for of in (OURS, FORMER_NAME))
        bar = Bar("ours / peer", "<=", limit)
        yield row(f"fashion: {name}, ours to {FORMER_NAME}", measured, ours=mine, peer=former, bar=bar)


def digits_rows(figures: Figures, seeds: range, folder: Path) -> Iterator[Row]:
    """Measure digits, split by the seed and split as `make run` does, and yield the lines."""
    for seed in seeds:
        _measure(figures, "digits", digits(seed), range(seed, seed + 1), slow=seed == seeds[0])
    own = own_digits()
    _measure(figures, "digits", own, seeds)
    for case in ("digits", own.name):
        for name, limit in DIGITS_BARS.items():
            yield from figure_rows(figures, case, name, bar=Bar("ours", ">=", limit))
            yield ahead(figures, case, name, RAW)
        yield from figure_rows(figures, case, MOVED_TWICE)
        yield from figure_rows(figures, case, ACCURACY)


def emoji_rows(figures: Figures, seeds: range, folder: Path) -> Iterator[Row]:
    """Measure emoji, and yield the lines."""
    _measure(figures, "emoji", emoji(folder), seeds)
    for name in RECALLS.values():
        yield from figure_rows(figures, "emoji", name)
        for peer in (RAW, PCA, HOG):
            yield ahead(figures, "emoji", name, peer, least=0.0)
    yield from figure_rows(figures, "emoji", CATEGORY)


def _measure(figures: Figures, part: str, split: Split, seeds: range, *, slow: bool = True) -> None:
    """Take the figures of all methods; `slow`: also those of pythae, with one seed."""
    dim = DIMENSIONS[part]
    peers = Peers(split, dim, CELLS[part])
    for seed in seeds:
        figures.take(split.name, OURS, seed, partial(_ours, split, dim, seed))
        for name in (RAW, PCA, HOG) if split.same is None or seed == seeds[0] else ():
            figures.take(split.name, name, seed, partial(peers.scores, name, seed))
    for name in PYTHAE if slow else ():
        figures.take(split.name, name, seeds[0], partial(_pythae, split, part, name, seeds[0]))


def _ours(split: Split, dim: int, seed: int) -> dict[str, Scores]:
    """Train the shipped and the former configuration, and judge both and the shipped one untrained."""
    runs = {OURS: trained(split.rows, seed), FORMER_NAME: trained(split.rows, seed, FORMER)}
    encoders = {name: run.encoder for name, run in runs.items()}
    if wrong := [encoder.latent_dim for encoder in encoders.values() if encoder.latent_dim != dim]:
        raise RuntimeError(f"expected {dim} dimensions, found {wrong[0]}")
    speed = single_row_us(encoders, read_sample(split.rows, 1_000, seed=0)[0])
    scores = {
        name: _judged_encoder(split, encoder, seed)
        for name, encoder in (encoders | {UNTRAINED: untrained(encoders[OURS], seed)}).items()
    }
    for name, run in runs.items():
        scores[name] |= {TRAINING: run.seconds, ENCODING: speed[name]}
        print(f"{split.name}, seed {seed}: trained {name} in {run.seconds:.0f} s")
        if split.same is None:
            scores[name][ERROR] = _error(split, run.encoder.reconstruct(split.queries))
    return scores


def _judged_encoder(split: Split, encoder: Encoder, seed: int) -> Scores:
    items = encoded(encoder, split.rows)
    if split.same is not None:
        return _of_same(split, nearest(items, encoded(encoder, split.asked), K))
    return _judged(split, items, lambda rows: encoded(encoder, array_rows(rows, "queries")), seed)


def _judged(split: Split, items: Floats, embed: Embed, seed: int) -> Scores:
    """The scores of embedded items, for the queries, and for the queries with noise and moved."""
    if split.same is not None:
        return _of_same(split, nearest(items, embed(split.queries), K))
    height, width = split.shape
    queries = {CLEAN: split.queries, NOISY: noisy(split.queries, SIGMA, split.greatest, seed)}
    for name, pixels in ((MOVED, 1), (MOVED_TWICE, 2)):
        queries[name] = moved(split.queries, (height, width), pixels, seed)
    found = {name: nearest(items, embed(rows), K) for name, rows in queries.items()}
    labels = (split.item_labels, split.query_labels)
    return {name: precision(each, *labels) for name, each in found.items()} | {
        ACCURACY: accuracy(found[CLEAN], *labels)
    }


def _of_same(split: Split, found: Integers) -> Scores:
    """The scores of queries that each show the same thing as one item."""
    if split.same is None:
        raise RuntimeError(f"{split.name}: no item is known to show the same as a query")
    recalls = {name: recall_same(found, split.same, k) for k, name in RECALLS.items()}
    return recalls | {CATEGORY: precision(found, split.item_labels, split.query_labels)}


def _wide_ours(split: Split, seed: int) -> dict[str, Scores]:
    encoder = trained(split.rows, seed, [f"model.latent_dim={WIDE}"]).encoder
    return {OURS: _wide(split, encoded(encoder, split.rows), encoded(encoder, split.asked))}


def _wide(split: Split, items: Floats, queries: Floats) -> Scores:
    """The precision with items of length one whose numbers are rounded to 8 bits."""
    found = nearest(eight_bits(unit(items)), queries, K)
    return {WIDE_CLEAN: precision(found, split.item_labels, split.query_labels)}


def _pythae(split: Split, part: str, name: str, seed: int) -> dict[str, Scores]:
    """pythae reads pictures channel by channel."""
    channels = split.shape[2:] or (1,)
    shape = (*channels, *split.shape[:2])

    def turned(rows: Floats) -> Floats:
        pictures = rows.reshape(len(rows), *split.shape[:2], *channels)
        return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).reshape(len(rows), -1)

    embed = pythae(
        turned(split.items),
        shape,
        DIMENSIONS[part],
        variational=name == PYTHAE[1],
        epochs=PYTHAE_EPOCHS[part],
        greatest=split.greatest,
    )
    return {name: _judged(split, embed(turned(split.items)), lambda rows: embed(turned(rows)), seed)}


def _error(split: Split, output: Floats) -> float:
    """The mean square error of reconstructed queries, as a share of their mean square distance from the mean item."""
    mean = split.items.mean(axis=0, dtype=np.float64)
    variance = np.mean(np.square(split.queries - mean))
    return float(np.mean(np.square(output - split.queries, dtype=np.float64)) / variance)
