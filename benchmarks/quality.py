"""Does the shipped default find the right neighbours? Fashion-MNIST, test images against the training images.

ours    a denoising autoencoder of 32 dimensions, trained by `training.job.train` with `TrainConfig()` as it is
peer    PCA of the same dimension, fitted on all training images
floor   the raw pixels

Noise is Gaussian of sigma 0.3 on pixels of [0, 1], clipped to [0, 1]. `--seeds N` trains N times and reports
means, with the spread below the table.
"""

import argparse
import dataclasses
import math
import statistics
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Bar, Row, report, row
from training.artifact import Encoder
from training.config import CorruptionConfig, TrainConfig
from training.job import TrainedRun, train
from training.judge import Judged, Question, add_noise, judge_encoder, judge_pca, judge_raw
from training.preprocess import Preprocessor
from training.rows import open_rows, read_sample

__all__ = ["main"]

DIMENSIONS = 32
MAX_EPOCHS = 30
SIGMA = 0.3
FULL_RANGE = 255.0


def ask(scaling: Preprocessor) -> Question:
    """The 10,000 test images, clean and noisy, against the 60,000 training images."""
    (items, item_labels), (queries, query_labels) = (
        read_sample(rows := open_rows(name), rows.count, seed=0) for name in ("fashion-mnist", "fashion-mnist:test")
    )
    noisy = add_noise(queries, scaling, SIGMA)
    check_noise(queries, noisy)
    return Question(items, queries, noisy, item_labels, query_labels)


def check_noise(clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> None:
    """Is it the noise of the claim? Within the range, and where clipping is known, of the moments it must have.

    Half of what is added to a black pixel is clipped: what is left has mean sigma / sqrt(2 pi) and mean square
    sigma^2 / 2 (the clipping at the other end is past three sigma).

    Raises:
        RuntimeError: it is not.
    """
    black = noisy[clean == 0] / FULL_RANGE
    found = (float(noisy.min()), float(noisy.max()), float(black.mean()), float(np.mean(np.square(black, dtype="f8"))))
    wanted = (0.0, FULL_RANGE, SIGMA / math.sqrt(2 * math.pi), SIGMA**2 / 2)
    if not np.allclose(found, wanted, rtol=0.01, atol=0.01):
        raise RuntimeError(f"the noise is not the claim's: least, most, mean, mean square {found}, expected {wanted}")


def trained(seed: int, corruption: CorruptionConfig, folder: Path) -> TrainedRun:
    """One run of the shipped settings; nothing but the seed and the corruption is set."""
    shipped = TrainConfig()
    config = dataclasses.replace(shipped, corruption=corruption, fit=dataclasses.replace(shipped.fit, seed=seed))
    run = train(open_rows("fashion-mnist"), config, folder)
    check_run(run)
    return run


def check_run(run: TrainedRun) -> None:
    """Raises RuntimeError where the run is not what the claim is about."""
    found = (run.encoder.latent_dim, len(run.state.history))
    if found[0] != DIMENSIONS or found[1] > MAX_EPOCHS:
        raise RuntimeError(f"expected {DIMENSIONS} dimensions, at most {MAX_EPOCHS} epochs, found {found}")


def judge_seed(seed: int, question: Question | None) -> tuple[Question, Encoder, list[Judged]]:
    """Train both autoencoders with one seed and judge them; the question is asked of all seeds alike."""
    kinds = {"standard": CorruptionConfig(kind="none"), "denoising": TrainConfig().corruption}
    with tempfile.TemporaryDirectory() as folder:
        encoders = {name: trained(seed, kind, Path(folder) / name).encoder for name, kind in kinds.items()}
    question = question or ask(encoders["denoising"].preprocess)
    judged = [judge_encoder(name, encoder, question) for name, encoder in encoders.items()]
    return question, encoders["denoising"], judged


def compare(seeds: int) -> tuple[list[Row], str]:
    """The rows of the report, and the spread over seeds in words."""
    question: Question | None = None
    runs: list[list[Judged]] = []
    for seed in range(seeds):
        question, encoder, judged = judge_seed(seed, question)
        if seed == 0:
            # reconstruction errors compare in one unit only, that of the run
            raw, pca = judge_raw(question), judge_pca(DIMENSIONS, encoder.preprocess, question, question.items)
        runs.append(judged)
    standard, denoising = (_mean(list(same)) for same in zip(*runs, strict=True))
    spread = "\n".join(_spread(list(same)) for same in zip(*runs, strict=True)) if seeds > 1 else ""
    return [*_lines(denoising, pca, raw, bars=True), *_lines(standard, pca, raw, bars=False)], spread


def _lines(mine: Judged, pca: Judged, raw: Judged, *, bars: bool) -> list[Row]:
    def line(what: str, unit: str, figures: tuple[float | None, ...], bar: Bar) -> Row:
        ours, peer, floor = figures
        return row(f"{mine.name}: {what}", unit, ours=ours, peer=peer, floor=floor, bar=bar if bars else None)

    clean = (mine.precision, pca.precision, raw.precision)
    noisy = (mine.noisy_precision, pca.noisy_precision, raw.noisy_precision)
    errors = (mine.reconstruction, pca.reconstruction, None)
    return [
        line("label precision@10, clean", "share", clean, Bar("ours", ">=", 0.82)),
        line("label precision@10, noisy", "share", noisy, Bar("ours", ">=", 0.79)),
        line("reconstruction error", "mean square", errors, Bar("ours / peer", "<=", 0.70)),
    ]


def _mean(same: list[Judged]) -> Judged:
    means = {field: statistics.fmean(values) for field, values in _figures(same).items()}
    return Judged(same[0].name, means["reconstruction"], means["clean"], means["noisy"], same[0].bytes_per_item)


def _spread(same: list[Judged]) -> str:
    texts = [
        f"{field} {min(values):.4f} to {max(values):.4f} (sd {statistics.stdev(values):.4f})"
        for field, values in _figures(same).items()
    ]
    return f"{same[0].name}, {len(same)} seeds: " + ", ".join(texts)


def _figures(same: list[Judged]) -> dict[str, list[float]]:
    return {
        "reconstruction": [judged.reconstruction for judged in same],
        "clean": [judged.precision or 0.0 for judged in same],
        "noisy": [judged.noisy_precision or 0.0 for judged in same],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train with the seeds 0 to N-1")
    rows, spread = compare(parser.parse_args().seeds)
    report("quality", rows, spread)


if __name__ == "__main__":
    main()
