"""Does an explanation name first what two rows share?

Rows are made so that their parts are independent: the columns of a table (numbers, booleans, words), the tiles of a
picture, the segments of a window with two channels. An autoencoder is trained on each kind of rows. Two rows get one
part in common; everywhere else they differ by at least one standard deviation, or have different words. The figure is
the share of pairs for which the common part has the greatest weight `alike`.

The second test uses neighbors in Fashion-MNIST, which share many tiles. In both pictures the five tiles that were named
first are replaced, by those of unrelated pictures. The figure is how far apart that brings the embeddings, as a share
of the distance of unrelated pictures: the more it is, the more these tiles made the pictures alike.

peer    the part with the smallest plain difference, in standard deviations, which needs no encoder; of several, one of
        them by chance
floor   five tiles by chance
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.random import Generator

from benchmarks.report import Bar, Row, report, row
from lookalike.index.ann.spec import Metric
from lookalike.index.evaluation.explain import Explanation, compare
from lookalike.index.evaluation.input_parts import InputPart, parts_of
from lookalike.index.versions.embed import embed
from lookalike.index.versions.stored_inputs import StoredInputs
from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import Chunk, Rows, open_rows, read_sample
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import WindowTransform

__all__ = ["SOURCES", "Found", "main", "named_first", "train_on"]

COUNT, PAIRS = 2_000, 100
FAR = 1.0
"""The least difference of parts that are not shared, in standard deviations."""
SETTINGS = ("fit.device=cpu", "fit.epochs=60", "fit.batch_size=64")
PICTURES = 8_000
NAMED, REPLACED_FROM = 5, 20


@dataclass(frozen=True)
class Found:
    """The share of pairs for which the weights, and the peer, name the common part first."""

    ours: float
    peer: float


def table() -> Rows:
    """Four numbers, two booleans and four words of five."""
    rng = np.random.default_rng(0)
    numbers = [Column(f"number {n}") for n in range(4)]
    booleans = [Column(f"boolean {n}", "boolean", ("false", "true")) for n in range(2)]
    words = [Column(f"word {n}", "categorical", ("a", "b", "c", "d", "e")) for n in range(4)]
    parts = rng.normal(0, 1, (COUNT, 4)), rng.integers(0, 2, (COUNT, 2)), rng.integers(0, 5, (COUNT, 4))
    return _rows(np.concatenate(parts, axis=1), (10,), tuple(numbers + booleans + words))


def pictures() -> Rows:
    """Pictures of 14 x 14 pixels, whose 49 tiles have any brightness."""
    rng = np.random.default_rng(0)
    tiles = np.kron(rng.uniform(0, 255, (COUNT, 7, 7)), np.ones((1, 2, 2)))
    noisy = (tiles + rng.normal(0, 8, tiles.shape)).clip(0, 255).round()
    return _rows(noisy.reshape(COUNT, -1), (14, 14))


def windows() -> Rows:
    """Windows of 64 samples of two channels, which oscillate; the amplitude changes every four samples."""
    rng = np.random.default_rng(0)
    amplitudes = np.repeat(rng.normal(0, 1, (COUNT, 16, 2)), 4, axis=1)  # (n, 64, 2)
    wave = np.sin(1.1 * np.arange(64) + 0.5)
    transform = WindowTransform(window=64, hop=64, channels=("x", "y"))
    return _rows((amplitudes * wave[:, None]).reshape(COUNT, -1), (64, 2), transform=transform)


SOURCES = {"table": table, "pictures": pictures, "windows": windows}
_MODELS = {(10,): (24, "[64]"), (14, 14): (49, "[]"), (64, 2): (32, "[]")}
"""By the shape of a row: the dimension of the embedding, at least that of the parts, and the hidden layers."""


def train_on(rows: Rows, run: Path) -> Encoder:
    """Train an encoder on the rows of a source."""
    latent, hidden = _MODELS[rows.shape]
    config = load_config(None, [*SETTINGS, f"model.latent_dim={latent}", f"model.hidden={hidden}"])
    return train(rows, config, run).encoder


def named_first(encoder: Encoder, rows: Rows, pairs: int, metric: Metric = "cosine") -> dict[str, Found]:
    """Measure with so many pairs for each kind of part; for a table, for each kind of column."""
    inputs, parts = read_sample(rows, COUNT, 0)[0], parts_of(encoder)
    kinds: dict[str, list[InputPart]] = {}
    for part in parts:
        kinds.setdefault(part.columns[0].kind if part.columns else part.kind, []).append(part)
    rng, found = np.random.default_rng(1), dict[str, Found]()
    for kind, shared in kinds.items():
        chosen = [shared[number % len(shared)] for number in range(pairs)]
        pairs_made = [_pair_with_one_part_in_common(inputs, parts, part, rng) for part in chosen]
        found[kind] = _measure(encoder, inputs, list(zip(chosen, pairs_made, strict=True)), metric)
    return found


def distances_without(encoder: Encoder, pairs: int) -> dict[str, float]:
    """Measure with neighbors in Fashion-MNIST how far apart they are without the tiles that ours, peer, floor name."""
    inputs = read_sample(open_rows("fashion-mnist"), PICTURES, 0)[0]
    embeddings, rng = embed(encoder, inputs, "cosine"), np.random.default_rng(2)
    sums = dict.fromkeys(("ours", "peer", "floor"), 0.0)
    for a in rng.choice(len(inputs), pairs, replace=False):
        b = np.argsort(-(embeddings @ embeddings[a]))[1]
        explanation = _explain(encoder, inputs, inputs[[a, b]], "cosine")
        weights = [explanation.weights[n] for n in rng.permutation(len(explanation.weights))]  # ties by chance
        named = {
            "ours": sorted(weights, key=lambda weight: -weight.alike),
            "peer": sorted(weights, key=lambda weight: weight.difference),
            "floor": weights,
        }
        others = inputs[rng.choice(len(inputs), (2, REPLACED_FROM), replace=False)]  # (2, r, width)
        for name, order in named.items():
            at = np.concatenate([weight.part.at for weight in order[:NAMED]])
            rows = np.repeat(inputs[[a, b]][:, None], REPLACED_FROM, axis=1)  # (2, r, width)
            rows[..., at] = others[..., at]
            moved = embed(encoder, rows.reshape(-1, rows.shape[2]), "cosine").reshape(2, REPLACED_FROM, -1)
            sums[name] += float(((moved[0] - moved[1]) ** 2).sum(axis=1).mean()) / explanation.usual
    return {name: total / pairs for name, total in sums.items()}


def _measure(encoder: Encoder, inputs: Floats, made: list[tuple[InputPart, Floats]], metric: Metric) -> Found:
    ours, peer = 0, 0.0
    for part, pair in made:
        weights = _explain(encoder, inputs, pair, metric).weights
        least = min(weight.difference for weight in weights)
        nearest = [weight.part.name for weight in weights if weight.difference == least]
        ours += max(weights, key=lambda weight: weight.alike).part.name == part.name
        peer += nearest.count(part.name) / len(nearest)
    return Found(ours / len(made), peer / len(made))


def _explain(encoder: Encoder, inputs: Floats, pair: Floats, metric: Metric) -> Explanation:
    occlusion = compare(encoder, StoredInputs(inputs), pair)
    return occlusion.explain(np.concatenate([embed(encoder, rows, metric) for rows in occlusion.blocks()]), metric)


def _pair_with_one_part_in_common(inputs: Floats, parts: list[InputPart], common: InputPart, rng: Generator) -> Floats:
    """Return (2, width): two random rows, the second with the part of the first; the other parts are drawn apart."""
    pair, deviations = inputs[rng.integers(len(inputs), size=2)], inputs.std(axis=0)
    for part in parts:
        while part.name != common.name and not _is_far(part, pair[:, part.at], deviations[part.at]):
            pair[1, part.at] = inputs[rng.integers(len(inputs)), part.at]
    pair[1, common.at] = pair[0, common.at]
    return pair


def _is_far(part: InputPart, values: Floats, deviations: Floats) -> bool:
    """Whether two parts, (2, m), differ by FAR, or have different words."""
    if part.columns and part.columns[0].kind != "numeric":
        return bool((values[0] != values[1]).any())
    return bool(((values[0] - values[1]) ** 2).mean() >= FAR**2 * (deviations**2).mean())


def _rows(
    inputs: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    shape: tuple[int, ...],
    columns: tuple[Column, ...] = (),
    transform: WindowTransform | None = None,
) -> Rows:
    def read(size: int) -> Iterator[Chunk]:
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size].astype(np.float32)
            yield Chunk([str(start + number) for number in range(len(part))], part, [{}] * len(part))

    return Rows("made", shape, len(inputs), False, read, columns, gaps=bool(columns), transform=transform)


def main() -> None:
    bar, rows = Bar("ours", ">=", 0.95), list[Row]()
    with TemporaryDirectory() as folder:
        for name, source in SOURCES.items():
            made = source()
            encoder = train_on(made, Path(folder) / name)
            for kind, found in named_first(encoder, made, PAIRS).items():
                claim = f"{name}: pairs whose common part ({kind}) is named first"
                rows.append(row(claim, "share", ours=found.ours, peer=found.peer, bar=bar))
        run = train(open_rows("fashion-mnist"), load_config(None, ["fit.epochs=10"]), Path(folder) / "fashion")
        without = distances_without(run.encoder, PAIRS)
        claim = f"fashion-mnist: distance of neighbors without the {NAMED} tiles named first"
        rows.append(row(claim, "of unrelated", **without, bar=Bar("ours / peer", ">=", 1.2)))
    report("explain", rows)


if __name__ == "__main__":
    main()
