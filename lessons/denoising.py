"""Denoising: the same autoencoder, trained on clean rows and trained to remove noise, and tested on noisy rows."""

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Tiles
from lookalike.lessons.shown import Shown, mean_of_runs
from lookalike.lessons.workbench import (
    Digits,
    adam,
    agreement,
    as_images,
    autoencoder,
    batches,
    digits,
    isolated,
    squared_error,
)

__all__ = ["corrupted", "experiment", "train", "with_noise"]

LEVEL, TEST_NOISE = 0.5, 0.3
"""Each training row draws its noise from 0 to LEVEL; all test rows have the noise TEST_NOISE."""
EPOCHS, RUNS, SHOWN = 20, 3, 6


def experiment(seed: int = 0) -> Shown:
    """Measure the error and the neighbors' labels on clean and on noisy test rows, as means over three runs."""
    return mean_of_runs(_run, RUNS, seed)


def _run(seed: int) -> tuple[dict[str, float], Tiles]:
    """One run, with rows, initial weights and noise from `seed`: its numbers, and a few pictures."""
    data = digits(seed)
    with isolated(seed):
        noisy = with_noise(data.test, torch.full((len(data.test), 1), TEST_NOISE))
    examples = {"clean": data.test, "noisy": noisy}
    numbers = {"error of the noisy rows themselves": float(squared_error(noisy, data.test))}
    for name, level in (("standard", 0.0), ("denoising", LEVEL)):
        with isolated(seed):
            model = train(data.train, level)
        numbers |= _measure(f"{name} autoencoder", model, data, noisy)
        with torch.inference_mode():
            examples[f"{name}'s output"] = model(noisy)
    for kind, rows in (("clean", data.test), ("noisy", noisy)):
        numbers[f"precision@10 on {kind} rows, raw rows"] = agreement(
            data.train, data.train_labels, rows, data.test_labels
        )
    tiles = {name: as_images(rows[:SHOWN]) for name, rows in examples.items()}
    return numbers, Tiles("Two autoencoders reconstruct noisy digits", tiles)


def train(rows: Tensor, level: float) -> nn.Sequential:
    """A denoising autoencoder differs only in one line: its input is `seen`, and its target is `clean`."""
    model = autoencoder(16)
    optimizer = adam(model, 5e-3)
    for _ in range(EPOCHS):
        for batch in batches(len(rows), 64):
            clean = rows[batch]  # (batch, 64)
            seen = corrupted(clean, level)
            optimizer.zero_grad()
            squared_error(model(seen), clean).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def corrupted(clean: Tensor, level: float) -> Tensor:
    """Add normal noise whose standard deviation is drawn per row from [0, level), and clip to [0, 1]."""
    return with_noise(clean, torch.rand(len(clean), 1) * level)


def with_noise(rows: Tensor, deviation: Tensor) -> Tensor:
    """Rows (n, 64) plus normal noise of standard deviation (n, 1), clipped to [0, 1]."""
    return (rows + deviation * torch.randn_like(rows)).clamp(0.0, 1.0)


@torch.inference_mode()
def _measure(name: str, model: nn.Sequential, data: Digits, noisy: Tensor) -> dict[str, float]:
    encoder, items = model[0], model[0](data.train)
    measured = {}
    for kind, rows in (("clean", data.test), ("noisy", noisy)):
        measured[f"error on {kind} rows, {name}"] = float(squared_error(model(rows), data.test))
        measured[f"precision@10 on {kind} rows, {name}"] = agreement(
            items, data.train_labels, encoder(rows), data.test_labels
        )
    return measured
