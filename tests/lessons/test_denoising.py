"""A denoising autoencoder is better on noisy rows, and slightly worse on clean rows."""

import torch

from lookalike.lessons.denoising import corrupted, with_noise
from tests.lessons.conftest import Experiment

STANDARD, DENOISING = "standard autoencoder", "denoising autoencoder"


def test_denoising_is_better_on_noisy_rows(numbers: Experiment) -> None:
    measured = numbers("denoising")
    assert measured[f"error on noisy rows, {DENOISING}"] < 0.75 * measured[f"error on noisy rows, {STANDARD}"]
    assert (
        measured[f"precision@10 on noisy rows, {DENOISING}"]
        > measured[f"precision@10 on noisy rows, {STANDARD}"] + 0.04
    )
    assert measured[f"error on noisy rows, {DENOISING}"] < 0.6 * measured["error of the noisy rows themselves"]


def test_denoising_has_a_larger_error_on_clean_rows(numbers: Experiment) -> None:
    measured = numbers("denoising")
    assert measured[f"error on clean rows, {DENOISING}"] > 1.1 * measured[f"error on clean rows, {STANDARD}"]
    assert (
        measured[f"precision@10 on clean rows, {DENOISING}"]
        > measured[f"precision@10 on clean rows, {STANDARD}"] - 0.01
    )


def test_raw_rows_have_the_best_precision_here(numbers: Experiment) -> None:
    measured = numbers("denoising")
    for kind in ("clean", "noisy"):
        assert (
            measured[f"precision@10 on {kind} rows, raw rows"] > measured[f"precision@10 on {kind} rows, {DENOISING}"]
        )


def test_noise_stays_in_the_range_and_does_not_change_the_input() -> None:
    rows = torch.full((50, 64), 0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noisy, unchanged = with_noise(rows, torch.ones(50, 1)), corrupted(rows, 0.0)
    assert (float(noisy.min()), float(noisy.max())) == (0.0, 1.0)
    assert torch.equal(unchanged, rows)
    assert torch.equal(rows, torch.full((50, 64), 0.5))
