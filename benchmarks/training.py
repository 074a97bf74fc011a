"""How near is a training step to its matrix products, and how far from the textbook loop and from other trainers?

Fashion-MNIST, 784-512-256-32 and back, batches of 256, two threads, on the CPU; MSE, Adam.

ours    `training.fit.loop.fit`; a hook takes the time of each step; in float32, and with products in bfloat16
peers   the textbook loop: a Dataset with one row per `__getitem__`, a DataLoader that shuffles it, the same model,
        `optim.Adam` with its defaults, `loss.item()` in each step. Once over rows that are ready as a tensor, its best
        case, and once over pictures, as in PyTorch's own quick start. Then pythae's trainer on the same model, and
        scikit-learn's MLPRegressor of the same widths, rows as targets
by hand the same step, written out: rows gathered from one tensor, the model, the loss, fused Adam; no watch and no
        hooks: PyTorch's own cost in addition to the products
floor   the matrix products of a step, forward and backward, of the same precision, and nothing else: operands in the
        cache, results written to memory allocated once, which is the stricter of the two ways

A segment is one start of a loop and some steps of it; the first steps are not counted, except for pythae and
scikit-learn, whose loops cannot be observed: theirs is one call of the same number of steps, timed as a whole.
"""

import contextlib
import dataclasses
import io
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image
from sklearn.neural_network import MLPRegressor
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset

from benchmarks.report import Bar, Row, alternate, medians, report, row, seconds
from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.config import CorruptionConfig, LossConfig, ModelConfig, OptimizerConfig
from lookalike.training.corruption import build_corruption
from lookalike.training.fit.loop import fit
from lookalike.training.history import State
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.losses import LOSSES, bounded, build_loss
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.plan import Data, FitPlan, Hooks
from lookalike.training.rows import open_rows, read_sample
from lookalike.training.schedules import build_schedule

__all__ = ["main"]

ROUNDS = 9
WARM, STEPS = 10, 60
BATCH = 256
ACTIVATIONS: tuple[Literal["relu", "silu"], ...] = ("relu", "silu")
PLAIN = ModelConfig(batch_norm=False, latent_norm=False, latent_noise=0.0)
PRECISIONS = {"fp32": (1.15, 4.5), "bf16": (1.5, 6.0)}
"""For each precision, the bar to the floor and the bar to the textbook."""
PEERS = {
    "pictures": "the textbook, from pictures",
    "tensor": "the textbook, from a tensor",
    "pythae": "pythae's trainer",
    "scikit-learn": "scikit-learn's MLPRegressor",
}
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
    """The quick start's case: torchvision's FashionMNIST with ToTensor, written out: its wheel needs another torch."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures  # (n, 28, 28) uint8

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> Tensor:
        picture = Image.fromarray(self.pictures[number].numpy())
        values = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(28, 28, 1)
        return values.permute(2, 0, 1).contiguous().to(torch.float32).div(255).flatten()  # (784,)


class EnoughError(Exception):
    """Ends a segment of `fit` from inside its hook, because an epoch is longer than a segment."""


class Stopwatch:
    """Called after each step; the first WARM steps are not counted."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def tick(self) -> None:
        self.stamps.append(time.perf_counter())
        if len(self.stamps) == WARM + STEPS:
            raise EnoughError

    @property
    def step_ms(self) -> float:
        return (self.stamps[-1] - self.stamps[WARM - 1]) / (len(self.stamps) - WARM) * 1e3


def stopped_after_enough(loop: Callable[[Stopwatch], object]) -> Segment:
    """Run the loop's steps until the stopwatch has enough of them."""

    def segment() -> float:
        watch = Stopwatch()
        with contextlib.suppress(EnoughError):
            loop(watch)
        return watch.step_ms

    return segment


def ours(
    rows: Tensor, model_config: ModelConfig, *, bf16: bool = False, scaling: Preprocessor | None = None
) -> Segment:
    """`fit` itself; with `scaling`, as shipped: with its loss and its corruption."""
    model = Autoencoder((WIDTHS[0],), WIDTHS[3], model_config)
    optimizer = build_optimizer(OptimizerConfig(), model)
    loss = bounded(build_loss(LossConfig()), scaling.low, scaling.high) if scaling else LOSSES["mse"]
    plan = FitPlan(
        epochs=30,
        batch_size=BATCH,
        patience=30,
        seed=0,
        schedule=build_schedule(OptimizerConfig()),
        corrupt=build_corruption(CorruptionConfig(), scaling, (WIDTHS[0],)) if scaling else None,
        bf16=bf16,
    )

    def train(watch: Stopwatch) -> None:
        hooks, data = Hooks(on_step=lambda step, steps: watch.tick()), Data(rows, rows[:BATCH])
        fit(model, loss, optimizer, data, plan=plan, hooks=hooks, state=State())

    return stopped_after_enough(train)


def textbook(rows: Dataset[Tensor], model_config: ModelConfig) -> Segment:
    """The peer: the loop of PyTorch's quick start."""
    loader = DataLoader(rows, batch_size=BATCH, shuffle=True)
    model = Autoencoder((WIDTHS[0],), WIDTHS[3], model_config)
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

    return stopped_after_enough(train)


def by_hand(rows: Tensor, model_config: ModelConfig, *, bf16: bool) -> Segment:
    """The cost of a step in PyTorch without our loop around it."""
    model = Autoencoder((WIDTHS[0],), WIDTHS[3], model_config)
    optimizer = optim.Adam(model.parameters(), lr=OptimizerConfig().lr, fused=True)

    def train(watch: Stopwatch) -> None:
        for batch in torch.split(torch.randperm(len(rows)), BATCH):
            clean = rows[batch]
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = model(clean)
            nn.functional.mse_loss(output.float(), clean).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            watch.tick()

    return stopped_after_enough(train)


def pythae(rows: Tensor, model_config: ModelConfig) -> Segment:
    """pythae's own trainer, on its AE with our two halves."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self, stack: nn.Module) -> None:
            super().__init__()
            self.stack = stack

        def forward(self, x: Tensor) -> ModelOutput:
            return ModelOutput(embedding=self.stack(x))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self, stack: nn.Module) -> None:
            super().__init__()
            self.stack = stack

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.stack(z))

    halves = Autoencoder((WIDTHS[0],), WIDTHS[3], model_config)
    shape = AEConfig(input_dim=(WIDTHS[0],), latent_dim=WIDTHS[3])
    model = AE(shape, encoder=Encoder(halves.encoder), decoder=Decoder(halves.decoder))
    some = rows[: STEPS * BATCH]
    folder = tempfile.mkdtemp()
    settings = BaseTrainerConfig(output_dir=folder, per_device_train_batch_size=BATCH, no_cuda=True)
    trainer = BaseTrainer(model, BaseDataset(some, torch.zeros(len(some))), training_config=settings)
    trainer.prepare_training()
    shutil.rmtree(folder)

    def segment() -> float:
        with contextlib.redirect_stderr(io.StringIO()):  # it draws its own progress bar
            return _timed(lambda: trainer.train_step(1))

    return segment


def regressor(rows: Tensor) -> Segment:
    """scikit-learn's MLPRegressor, with the rows as their own targets."""
    some = rows[: STEPS * BATCH].numpy()
    model = MLPRegressor(
        hidden_layer_sizes=WIDTHS[1:-1], batch_size=BATCH, learning_rate_init=OptimizerConfig().lr, random_state=0
    )
    model.partial_fit(some[:BATCH], some[:BATCH])
    return lambda: _timed(lambda: model.partial_fit(some, some))


def _timed(steps: Callable[[], object]) -> float:
    """The milliseconds of a step, of STEPS of them."""
    return seconds(steps) / STEPS * 1e3


def matrix_products(kind: torch.dtype) -> Segment:
    """The floor: for each layer x @ W.T, the gradients of W, and those of x except for the input."""
    weights = [(torch.randn(outs, ins) / ins**0.5).to(kind) for ins, outs in pairwise(WIDTHS)]
    rows, grads, forward, backward = ([torch.randn(BATCH, width).to(kind) for width in WIDTHS] for _ in range(4))
    weight_grads = [torch.empty_like(weight) for weight in weights]

    def products() -> None:
        for layer, weight in enumerate(weights):
            torch.mm(rows[layer], weight.t(), out=forward[layer + 1])  # (batch, outs)
        for layer in reversed(range(len(weights))):
            torch.mm(grads[layer + 1].t(), rows[layer], out=weight_grads[layer])  # (outs, ins)
            if layer:
                torch.mm(grads[layer + 1], weights[layer], out=backward[layer])  # (batch, ins)

    def repeat(watch: Stopwatch) -> None:
        for _ in itertools.count():
            products()
            watch.tick()

    return stopped_after_enough(repeat)


def training_rows() -> tuple[Tensor, Tensor, Preprocessor]:
    """The training images as `training.fit.job` passes them on, (60000, 784) centered float32, and as bytes."""
    raw, _ = read_sample(open_rows("fashion-mnist"), 60_000, seed=0)
    scaling = fit_preprocessor(raw, "center")
    pictures = torch.from_numpy(raw).to(torch.uint8).view(-1, 28, 28)
    return scaling.apply(torch.from_numpy(raw)), pictures, scaling


def compare(rounds: int) -> list[Row]:
    """All of them, alternating; the rows of the report."""
    rows, pictures, scaling = training_rows()
    segments = {"floor fp32": matrix_products(torch.float32), "floor bf16": matrix_products(torch.bfloat16)}
    for name in ACTIVATIONS:
        config = dataclasses.replace(PLAIN, activation=name)
        segments[f"{name} fp32"] = ours(rows, config)
        segments[f"{name} bf16"] = ours(rows, config, bf16=True)
    relu = dataclasses.replace(PLAIN, activation="relu")
    for kind in PRECISIONS:
        segments[f"by hand {kind}"] = by_hand(rows, relu, bf16=kind == "bf16")
    segments["tensor"] = textbook(RowByRow(rows), relu)
    segments["pictures"] = textbook(PictureByPicture(pictures), relu)
    segments["pythae"] = pythae(rows, relu)
    segments["scikit-learn"] = regressor(rows)
    for kind in PRECISIONS:
        segments[f"shipped {kind}"] = ours(rows, ModelConfig(), bf16=kind == "bf16", scaling=scaling)
    ms = medians(alternate(segments, rounds))
    return [line for kind in PRECISIONS for line in _lines(kind, ms)]


def _lines(kind: str, ms: dict[str, float]) -> Iterator[Row]:
    floor, (near, far) = ms[f"floor {kind}"], PRECISIONS[kind]
    for name in ACTIVATIONS:
        bar = Bar("ours / floor", "<=", near)
        yield row(f"a step, {kind}, {name}: the matrix products", "ms", ours=ms[f"{name} {kind}"], floor=floor, bar=bar)
    mine = ms[f"relu {kind}"]
    yield row(f"a step, {kind}, relu: the same by hand", "ms", ours=mine, peer=ms[f"by hand {kind}"])
    for peer, told in PEERS.items():
        ahead = Bar("peer / ours", ">=", far) if peer in {"tensor", "pictures"} else None
        yield row(f"a step, {kind}, relu: {told}, fp32", "ms", ours=mine, peer=ms[peer], bar=ahead)
    yield row(f"a step as shipped, {kind}", "ms", ours=ms[f"shipped {kind}"], floor=floor)


def main() -> None:
    torch.set_num_threads(2)
    report("training", compare(ROUNDS))


if __name__ == "__main__":
    main()
