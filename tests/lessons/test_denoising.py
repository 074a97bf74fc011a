"""Whoever learns to repair is better with damaged rows, and pays a little on whole ones."""

import torch

from lookalike.lessons.denoising import corrupted, with_noise
from tests.lessons.conftest import Experiment

STANDARD, DENOISING = "standard autoencoder", "denoising autoencoder"


def test_better_on_noisy_rows(numbers: Experiment) -> None:
    told = numbers("denoising")
    assert told[f"error on noisy rows, {DENOISING}"] < 0.75 * told[f"error on noisy rows, {STANDARD}"]
    assert told[f"precision@10 on noisy rows, {DENOISING}"] > told[f"precision@10 on noisy rows, {STANDARD}"] + 0.04
    assert told[f"error on noisy rows, {DENOISING}"] < 0.6 * told["error of the noisy rows themselves"]


def test_the_price_on_clean_rows(numbers: Experiment) -> None:
    told = numbers("denoising")
    assert told[f"error on clean rows, {DENOISING}"] > 1.1 * told[f"error on clean rows, {STANDARD}"]
    assert told[f"precision@10 on clean rows, {DENOISING}"] > told[f"precision@10 on clean rows, {STANDARD}"] - 0.01


def test_raw_rows_are_best_here(numbers: Experiment) -> None:
    told = numbers("denoising")
    for kind in ("clean", "noisy"):
        assert told[f"precision@10 on {kind} rows, raw rows"] > told[f"precision@10 on {kind} rows, {DENOISING}"]


def test_noise_leaves_the_range_and_the_input_alone() -> None:
    rows = torch.full((50, 64), 0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noisy, none = with_noise(rows, torch.ones(50, 1)), corrupted(rows, 0.0)
    assert (float(noisy.min()), float(noisy.max())) == (0.0, 1.0)
    assert torch.equal(none, rows)
    assert torch.equal(rows, torch.full((50, 64), 0.5))
