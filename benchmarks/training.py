"""How near is a training step to its matrix products, and how far from the textbook loop?

Fashion-MNIST, 784-512-256-32 and back, batches of 256, two threads, on the CPU.

ours    `training.loop.fit`, with the shipped loss and optimizer; a hook takes the time of each step
peer    the textbook loop: a Dataset with one row per `__getitem__`, a DataLoader that shuffles it, the same
        model, `optim.Adam` as it comes, `loss.item()` each step. Once over rows that lie ready as a tensor,
        which is its best case, and once over pictures, as PyTorch's own quick start does
floor   the float32 matrix products of a step, forward and backward, and nothing else: operands hot,
        results written to memory allocated once, which is the stricter of the two ways

A segment is one start of a loop and some steps of it; the first steps are not counted.
"""

import contextlib
import itertools
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset

from benchmarks.report import Bar, Row, alternate, medians, report, row
from training.config import CorruptionConfig, LossConfig, ModelConfig, OptimizerConfig
from training.corruption import build_corruption
from training.loop import Data, FitPlan, Hooks, State, fit
from training.losses import build_loss
from training.model import Autoencoder
from training.optim import build_optimizer, build_schedule
from training.preprocess import Preprocessor, fit_preprocessor
from training.rows import open_rows, read_sample

__all__ = ["main"]

ROUNDS = 9
WARM, STEPS = 10, 60
BATCH = 256
ACTIVATIONS: tuple[Literal["relu", "silu"], ...] = ("relu", "silu")
WIDTHS = (784, 512, 256, 32, 256, 512, 784)

Segment = Callable[[], float]
"""Runs and returns the milliseconds of a step."""


class RowByRow(Dataset[Tensor]):
    """The textbook's best case: float32 rows, scaled beforehand."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Tensor:
        return self.rows[number]


class PictureByPicture(Dataset[Tensor]):
    """The quick start's: torchvision's FashionMNIST with ToTensor, written out, as its wheel wants another torch."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures  # (n, 28, 28) uint8

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> Tensor:
        picture = Image.fromarray(self.pictures[number].numpy())
        values = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(28, 28, 1)
        return values.permute(2, 0, 1).contiguous().to(torch.float32).div(255).flatten()  # (784,)


class EnoughError(Exception):
    """Ends a segment of `fit` from inside its hook: an epoch is longer than a segment."""


class Stopwatch:
    """Ticked after each step; the first WARM steps are not counted."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def tick(self) -> None:
        self.stamps.append(time.perf_counter())
        if len(self.stamps) == WARM + STEPS:
            raise EnoughError

    @property
    def step_ms(self) -> float:
        return (self.stamps[-1] - self.stamps[WARM - 1]) / (len(self.stamps) - WARM) * 1e3


def ours(rows: Tensor, model_config: ModelConfig, scaling: Preprocessor | None = None) -> Segment:
    """`fit` itself; with `scaling`, under the shipped corruption."""
    model = Autoencoder(WIDTHS[0], WIDTHS[3], model_config)
    optimizer = build_optimizer(OptimizerConfig(), model)
    plan = FitPlan(
        epochs=30,
        batch_size=BATCH,
        patience=30,
        seed=0,
        schedule=build_schedule(OptimizerConfig()),
        corrupt=build_corruption(CorruptionConfig(), scaling) if scaling else None,
    )

    def segment() -> float:
        watch = Stopwatch()
        with contextlib.suppress(EnoughError):
            fit(
                model,
                build_loss(LossConfig()),
                optimizer,
                Data(rows, rows[:BATCH]),
                plan=plan,
                hooks=Hooks(on_step=watch.tick),
                state=State(),
            )
        return watch.step_ms

    return segment


def textbook(rows: Dataset[Tensor], model_config: ModelConfig) -> Segment:
    """The peer: the loop of PyTorch's quick start."""
    loader = DataLoader(rows, batch_size=BATCH, shuffle=True)
    model = Autoencoder(WIDTHS[0], WIDTHS[3], model_config)
    loss_function = nn.MSELoss()
    optimizer = optim.Adam(model.parameters(), lr=OptimizerConfig().lr)

    def train(watch: Stopwatch) -> float:
        model.train()
        running = 0.0
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_function(model(batch), batch)
            loss.backward()
            optimizer.step()
            running += loss.item()
            watch.tick()
        return running

    def segment() -> float:
        watch = Stopwatch()
        with contextlib.suppress(EnoughError):
            train(watch)
        return watch.step_ms

    return segment


def matrix_products() -> Segment:
    """The floor: for each layer x @ W.T, the gradients of W, and of x where x is not the input."""
    weights = [torch.randn(outs, ins) / ins**0.5 for ins, outs in pairwise(WIDTHS)]
    rows, grads, forward, backward = ([torch.randn(BATCH, width) for width in WIDTHS] for _ in range(4))
    weight_grads = [torch.empty_like(weight) for weight in weights]

    def products() -> None:
        for layer, weight in enumerate(weights):
            torch.mm(rows[layer], weight.t(), out=forward[layer + 1])  # (batch, outs)
        for layer in reversed(range(len(weights))):
            torch.mm(grads[layer + 1].t(), rows[layer], out=weight_grads[layer])  # (outs, ins)
            if layer:
                torch.mm(grads[layer + 1], weights[layer], out=backward[layer])  # (batch, ins)

    def segment() -> float:
        watch = Stopwatch()
        with contextlib.suppress(EnoughError):
            for _ in itertools.count():
                products()
                watch.tick()
        return watch.step_ms

    return segment


def training_rows() -> tuple[Tensor, Tensor, Preprocessor]:
    """The training images as `training.job` hands them to the loop, (60000, 784) centred float32, and as bytes."""
    raw, _ = read_sample(open_rows("fashion-mnist"), 60_000, seed=0)
    scaling = fit_preprocessor(raw, "center")
    pictures = torch.from_numpy(raw).to(torch.uint8).view(-1, 28, 28)
    return scaling.apply(torch.from_numpy(raw)), pictures, scaling


def compare(rounds: int) -> list[Row]:
    """All of them, alternating; the rows of the report."""
    rows, pictures, scaling = training_rows()
    segments = {"floor": matrix_products(), "shipped": ours(rows, ModelConfig(), scaling)}
    for name in ACTIVATIONS:
        config = ModelConfig(activation=name, batch_norm=False)
        segments[f"ours {name}"] = ours(rows, config)
        segments[f"tensor {name}"] = textbook(RowByRow(rows), config)
        segments[f"pictures {name}"] = textbook(PictureByPicture(pictures), config)
    ms = medians(alternate(segments, rounds))
    shipped = row("a step as shipped: silu, batch norm, denoising", "ms", ours=ms["shipped"], floor=ms["floor"])
    return [line for name in ACTIVATIONS for line in _lines(name, ms)] + [shipped]


def _lines(name: str, ms: dict[str, float]) -> list[Row]:
    claim, mine = f"a step, standard, {name}", ms[f"ours {name}"]
    ahead = Bar("peer / ours", ">=", 4)
    return [
        row(f"{claim}: the matrix products", "ms", ours=mine, floor=ms["floor"], bar=Bar("ours / floor", "<=", 1.25)),
        row(f"{claim}: the textbook, from pictures", "ms", ours=mine, peer=ms[f"pictures {name}"], bar=ahead),
        row(f"{claim}: the textbook, from a tensor", "ms", ours=mine, peer=ms[f"tensor {name}"], bar=ahead),
    ]


def main() -> None:
    torch.set_num_threads(2)
    report("training", compare(ROUNDS))


if __name__ == "__main__":
    main()
