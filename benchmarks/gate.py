"""Does the gate keep bad encoders out, and let honest retrainings through?

Bad challengers, 20 seeds each, compared with a champion that was trained on all rows except the held-out ones:

    collapsed         the last layer's weights are 0: all rows have one embedding
    half dead         half of the latent units are 0
    one epoch         trained for one epoch
    shuffled          trained on rows with the columns in a different order (even seeds), or with each row shuffled
    wrong scaler      the champion, with a scaler fitted on a different unit, on other columns, or of a different kind
    few rows          trained on 200 rows, without corruption or noise
    another's index   the champion's index with a different encoder; index.versions.consistency_check judges this case

Honest challengers: the champion is trained on 60 % of the rows and the challenger on all rows, with different seeds.
A promoted challenger must not be worse than the champion by more than the gate's margin on a fresh test set that
neither training nor the gate has seen. Each challenger is also judged alone, without a champion, as a first version is.
"""

import argparse
import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.report import Bar, Row, report, row
from lookalike.index.evaluation.gate import GateEvaluation, decide
from lookalike.index.versions.build import build
from lookalike.index.versions.consistency_check import check_consistency
from lookalike.index.versions.store import Store
from lookalike.index.versions.verdict import Verdict
from lookalike.index.versions.version import Version
from lookalike.training.artifact.architecture import rebuild
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample
from lookalike.training.rows.arrays import array_rows

__all__ = ["main"]

Floats = NDArray[np.float32]
MOST_SHUFFLED = 8_000
OVERFIT = ("corruption.kind=none", "model.latent_noise=0.0", "data.validation=0.02", "fit.epochs=30")


@dataclass(frozen=True)
class Part:
    """The sizes of a data set's parts, and the number of epochs."""

    shape: tuple[int, ...]
    pool: int
    held: int
    fresh: int
    settings: tuple[str, ...]
    shuffled: tuple[str, ...]
    honest: int


PARTS = {
    "digits": Part((8, 8), 1_137, 300, 360, (), ("fit.epochs=60",), 10),
    "fashion-mnist": Part((28, 28), 20_000, 1_000, 2_000, ("fit.epochs=12",), ("fit.epochs=4",), 3),
}


@dataclass(frozen=True)
class Data:
    """Raw rows, (n, width): to train on, for the gate, and fresh ones; labels of the last two."""

    name: str
    part: Part
    pool: Floats
    held: Floats
    fresh: Floats
    held_labels: list[Any]
    fresh_labels: list[Any]


def opened(name: str) -> Data:
    part = PARTS[name]
    rows, labels = read_sample(open_rows(name), part.pool + part.held, seed=0)
    order = np.random.default_rng(0).permutation(len(rows))
    held, pool = order[: part.held], order[part.held :]
    fresh, fresh_labels = read_sample(open_rows(f"{name}:test"), part.fresh, seed=0)
    return Data(name, part, rows[pool], rows[held], fresh, [labels[i] for i in held], fresh_labels)


def trained(data: Data, rows: Floats, seed: int, *settings: str) -> Encoder:
    config = load_config(None, ["fit.device=cpu", f"fit.seed={seed}", *data.part.settings, *settings])
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        return train(array_rows(rows, data.name, shape=data.part.shape), config, Path(folder) / "run").encoder


def with_last(encoder: Encoder, change: Callable[[str, Tensor], Tensor]) -> Encoder:
    """The encoder with a changed weight and bias of its last layer."""
    state = {f"encoder.{name}": tensor for name, tensor in encoder.encoder.state_dict().items()}
    last = max(int(name.split(".")[1]) for name in state)

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        del shape
        tensor = state[name].clone()
        return change(name.rpartition(".")[2], tensor) if name.startswith(f"encoder.{last}.") else tensor

    ends = encoder.preprocess.features, encoder.latent_dim
    return dataclasses.replace(encoder, encoder=rebuild("encoder", encoder.header["encoder"], take, ends=ends)[0])


def collapsed(encoder: Encoder, seed: int) -> Encoder:
    point = torch.randn(encoder.latent_dim, generator=torch.Generator().manual_seed(seed))
    return with_last(encoder, lambda name, tensor: point if name == "bias" else torch.zeros_like(tensor))


def half_dead(encoder: Encoder, seed: int) -> Encoder:
    dead = torch.randperm(encoder.latent_dim, generator=torch.Generator().manual_seed(seed))[: encoder.latent_dim // 2]
    return with_last(encoder, lambda name, tensor: tensor.index_fill(0, dead, 0.0))


def wrong_scaler(encoder: Encoder, rows: Floats, seed: int) -> Encoder:
    """A scaler fitted on rows in a different unit, on columns in a different order, or of a different kind."""
    rng = np.random.default_rng(seed)
    other: Preprocessor = [
        lambda: fit_preprocessor(rows / np.float32(rng.uniform(8, 255)), "center"),
        lambda: fit_preprocessor(rows * np.float32(rng.uniform(8, 255)), "center"),
        lambda: fit_preprocessor(rows[:, rng.permutation(rows.shape[1])], "center"),
        lambda: fit_preprocessor(rows[rng.permutation(len(rows))[: len(rows) // 2]], "standard"),
    ][seed % 4]()
    return dataclasses.replace(encoder, preprocess=other)


def shuffled(rows: Floats, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.permuted(rows, axis=0) if seed % 2 else rows[:, rng.permutation(rows.shape[1])]


def bad(data: Data, champion: Encoder, seed: int) -> Iterator[tuple[str, Encoder]]:
    yield "collapsed", collapsed(champion, seed)
    yield "half dead", half_dead(champion, seed)
    yield "one epoch", trained(data, data.pool, seed, "fit.epochs=1")
    yield "shuffled", trained(data, shuffled(data.pool[:MOST_SHUFFLED], seed), seed, *data.part.shuffled)
    yield "wrong scaler", wrong_scaler(champion, data.pool, seed)
    some = np.random.default_rng(seed).permutation(len(data.pool))[:200]
    yield "few rows", trained(data, data.pool[some], seed, *OVERFIT)


def built(data: Data, folder: Path) -> Version:
    """A version of a separate encoder, whose index is then combined with other encoders."""
    rows = array_rows(data.pool[:5_000], data.name, shape=data.part.shape)
    store = Store(folder / "store")
    with redirect_stderr(StringIO()):
        train(rows, load_config(None, ["fit.device=cpu", "fit.epochs=2"]), folder / "run")
        return store.open(build(rows, folder / "run", store, device="cpu"))


@dataclass
class Tally:
    """For one kind of bad encoder: how many were judged, and how many passed."""

    judged: int = 0
    promoted: int = 0
    without_labels: int = 0
    first: int = 0


def without_champion(verdict: Verdict) -> Verdict:
    """The verdict if there were no champion."""
    measures = [dataclasses.replace(one, compared=one.compared[1:]) for one in verdict.measures]
    return decide(tuple(measures), verdict.rows)


def judge_bad(data: Data, seeds: int) -> Iterator[Row]:
    """Judge every bad encoder, and print each verdict."""
    champion = trained(data, data.pool, 1_000)
    trial = GateEvaluation(data.held, data.held_labels, metric="cosine", fit_on=data.pool, like=champion)
    of_champion = trial.champion(champion)
    print(f"{data.name}, the champion by itself: {trial.judge(champion, None).reason}", flush=True)
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    swapped = Tally()
    with tempfile.TemporaryDirectory() as folder:
        version = built(data, Path(folder))
        if not check_consistency(version).holds:
            raise RuntimeError("an index does not match its own encoder")
        for seed in range(seeds):
            others = [champion]
            for name, encoder in bad(data, champion, seed):
                verdict = trial.judge(encoder, of_champion)
                tally = tallies[name]
                tally.judged += 1
                tally.promoted += verdict.passes
                tally.without_labels += decide(verdict.measures[1:], verdict.rows).passes
                tally.first += without_champion(verdict).passes
                others.append(encoder)
                outcome = "PROMOTED" if verdict.passes else "kept"
                print(f"{data.name}, {name} {seed}: {outcome}, {verdict.reason}", flush=True)
            swapped.judged += 1
            beside = dataclasses.replace(version, encoder=others[seed % len(others)])
            swapped.promoted += check_consistency(beside).holds
    none = Bar("ours", "<=", 0)
    for name, tally in tallies.items():
        place = f"{data.name}, {name}"
        yield row(f"{place}: promoted of {tally.judged}", "encoders", ours=float(tally.promoted), bar=none)
        yield row(f"{place}: without labels", "encoders", ours=float(tally.without_labels), bar=none)
        yield row(f"{place}: without a champion", "encoders", ours=float(tally.first))
    claim = f"{data.name}, another's index: taken for its own, of {swapped.judged}"
    yield row(claim, "versions", ours=float(swapped.promoted), bar=none)


def judge_honest(data: Data, seeds: int) -> Iterator[Row]:
    """Judge champions trained on 60 % of the rows against challengers trained on all rows."""
    promoted, alone, worse = 0, 0, 0
    for seed in range(seeds):
        some = np.random.default_rng(seed).permutation(len(data.pool))[: len(data.pool) * 6 // 10]
        champion, challenger = trained(data, data.pool[some], 2 * seed), trained(data, data.pool, 2 * seed + 1)
        trials = [
            GateEvaluation(rows, labels, metric="cosine", fit_on=data.pool, like=challenger)
            for rows, labels in ((data.held, data.held_labels), (data.fresh, data.fresh_labels))
        ]
        verdict, fresh = (trial.judge(challenger, trial.champion(champion)) for trial in trials)
        promoted += verdict.passes
        alone += without_champion(verdict).passes
        short = [measure.compared[0].difference + measure.compared[0].margin for measure in fresh.measures]
        worse += verdict.passes and min(short) < 0
        outcome = "promoted" if verdict.passes else "kept"
        print(f"{data.name}, honest {seed}: {outcome}, {verdict.reason}", flush=True)
        print("\n".join(f"    {line}" for line in verdict.lines()[1:]), flush=True)
        print("    on fresh rows, above the margin by: " + ", ".join(f"{value:+.4f}" for value in short), flush=True)
    yield row(f"{data.name}, honest: promoted of {seeds}", "encoders", ours=float(promoted))
    claim = f"{data.name}, honest: pass without a champion, of {seeds}"
    yield row(claim, "encoders", ours=float(alone), bar=Bar("ours", ">=", seeds))
    yield row(
        f"{data.name}, honest: promoted, and worse than the margin on fresh rows",
        "encoders",
        ours=float(worse),
        bar=Bar("ours", "<=", 0),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=20, help="seeds of each bad encoder")
    parser.add_argument(
        "--honest", type=int, default=5, help="honest retrainings of digits; at most three of fashion-mnist"
    )
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.datasets:
        data = opened(name)
        rows += [*judge_bad(data, options.seeds), *judge_honest(data, min(options.honest, data.part.honest))]
    report("gate", rows)


if __name__ == "__main__":
    main()
