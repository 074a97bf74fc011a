"""Ways in which a user's own training loop fails, each by one mechanism, and the loop that they are put into.

A mechanism replaces one part of `Loop`: the module, the optimizer, the rows of a step, the target, the loss, the
gradient before the step, the step, or the evaluation. `names` are the causes that name it rightly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from lookalike.training.doctor.facts import collect_facts
from lookalike.training.doctor.watch import Watch
from lookalike.training.history import Epoch, State, finite
from lookalike.training.models.losses import LOSSES, Loss
from lookalike.training.plan import Data, FitPlan

__all__ = ["KINDS", "Loop", "Parts", "Reconstruct", "data_of", "run_loop"]

KINDS = ("pictures", "recording", "table")
EPOCHS, BATCH = 24, 32


class Reconstruct(nn.Module):
    """An autoencoder as users write it."""

    def __init__(self, width: int, latent: int, activation: type[nn.Module], *, norm: bool) -> None:
        super().__init__()
        wide = 48
        norms = [nn.BatchNorm1d(wide) if norm else nn.Identity() for _ in range(2)]
        self.encoder = nn.Sequential(nn.Linear(width, wide), norms[0], activation(), nn.Linear(wide, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, wide), norms[1], activation(), nn.Linear(wide, width))
        self.between: Callable[[Tensor], Tensor] = lambda latent: latent
        self.last: Callable[[Tensor], Tensor] = lambda output: output

    def forward(self, rows: Tensor) -> Tensor:
        return self.last(self.decoder(self.between(self.encoder(rows))))


@dataclass
class Parts:
    """The state of a run; a mechanism may read all of it."""

    data: Data
    model: Reconstruct
    optimizer: optim.Optimizer
    generator: torch.Generator
    step: int = 0
    epoch: int = 0
    kept: dict[str, Any] | None = None


def _same(parts: Parts, value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Loop:
    """The parts of a loop, healthy by default.

    Attributes:
        data: before anything else; model: before the optimizer is made; ready: after it.
        order: the numbers of an epoch's rows. seen: the rows of a step. target: theirs. loss: from the mean loss, the
            output and the target. gradient: between backward and step. step: the step itself. after: after it.
        judged: the rows that are evaluated. mode: sets the modes before training (True) and evaluation (False).
    """

    data: Callable[[Data], Data] = lambda data: data
    model: Callable[[Reconstruct], Reconstruct] = lambda model: model
    optimizer: Callable[[nn.Module, bool], optim.Optimizer] = lambda model, adam: (
        optim.Adam(model.parameters(), 2e-3) if adam else optim.SGD(model.parameters(), 0.3, momentum=0.8)
    )
    ready: Callable[[Parts], object] = lambda parts: None
    order: Callable[[Parts, Tensor], Tensor] = _same
    seen: Callable[[Parts, Tensor], Tensor] = _same
    target: Callable[[Parts, Tensor], Tensor] = _same
    loss: Callable[[Parts, Loss, Tensor, Tensor], Tensor] = lambda parts, loss, output, target: loss(output, target)
    gradient: Callable[[Parts], object] = lambda parts: None
    step: Callable[[Parts], object] = lambda parts: parts.optimizer.step()
    after: Callable[[Parts], object] = lambda parts: None
    judged: Callable[[Parts, Tensor], Tensor] = _same
    mode: Callable[[Parts, bool], object] = lambda parts, training: parts.model.train(training)
    noise: float = 0.0


@cache
def data_of(kind: str, seed: int) -> Data:
    """Rows of one kind, scaled, a fifth of them held out."""
    random = np.random.default_rng(seed)
    if kind == "pictures":
        from sklearn.datasets import load_digits

        rows = load_digits().data[random.permutation(1_700)[:640]] / 16
    elif kind == "recording":
        rows = _windows(random)
    else:
        factors = random.normal(size=(640, 4))
        rows = np.tanh(factors @ random.normal(size=(4, 16))) + 0.1 * random.normal(size=(640, 16))
    rows = rows - rows.mean(axis=0)
    rows = rows / rows.std() if kind == "pictures" else rows / rows.std(axis=0)
    tensor = torch.from_numpy(rows.astype(np.float32))
    return Data(tensor[:512], tensor[512:])


def _windows(random: np.random.Generator) -> np.ndarray[Any, Any]:
    """(640, 40): windows of 20 samples of two channels: two tones of changing strength, and noise."""
    time = np.arange(640 * 20) / 20
    tones = [np.sin(2 * np.pi * (rate * time + random.random())) for rate in (0.7, 1.3, 2.1)]
    strength = [1 + np.sin(2 * np.pi * time / period) for period in (31, 47, 73)]
    first = sum(tone * part for tone, part in zip(tones, strength, strict=True))
    second = tones[0] * strength[1] - tones[2]
    both = np.stack([first, second], axis=1) + 0.1 * random.normal(size=(len(time), 2))
    windows: np.ndarray[Any, Any] = both.reshape(640, 40)
    return windows[random.permutation(640)]


def run_loop(loop: Loop, kind: str, seed: int) -> State:
    """Train with a loop on rows of a kind; the optimizer, the activation and the loss depend on the seed."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = loop.data(data_of(kind, seed))
    width = data.train.shape[1]
    activation = (nn.ReLU, nn.SiLU, nn.Tanh)[(seed + KINDS.index(kind)) % 3]
    model = loop.model(Reconstruct(width, 8, activation, norm=(seed + KINDS.index(kind)) % 2 == 0))
    loss = LOSSES["huber" if seed % 3 == 2 else "mse"]
    optimizer = loop.optimizer(model, seed % 2 == 0)
    plan = FitPlan(EPOCHS, BATCH, EPOCHS, seed, schedule=lambda done, losses: 1.0)
    parts = Parts(data, model, optimizer, torch.Generator().manual_seed(seed), kept={})
    state = State(facts=collect_facts(model, loss, optimizer, data, plan))
    loop.ready(parts)
    with Watch(model, optimizer) as watch:
        for number in range(1, EPOCHS + 1):
            parts.epoch = number
            _epoch(loop, loss, parts, watch, state)
            if state.history[-1].train_loss is None:
                break
    state.stopped = "finished"
    return state


def _epoch(loop: Loop, loss: Loss, parts: Parts, watch: Watch, state: State) -> None:
    model, data, total, count = parts.model, parts.data, 0.0, 0
    loop.mode(parts, True)
    order = loop.order(parts, torch.randperm(len(data.train), generator=parts.generator))
    for batch in torch.split(order, BATCH):
        rows = data.train[batch]
        parts.optimizer.zero_grad()
        noise = loop.noise * torch.randn(rows.shape, generator=parts.generator)
        value = loop.loss(parts, loss, model(loop.seen(parts, rows + noise)), loop.target(parts, rows))
        value.backward()  # type: ignore[no-untyped-call]
        loop.gradient(parts)
        loop.step(parts)
        loop.after(parts)
        watch.step(value)
        parts.step += 1
        total, count = total + float(value.detach()) * len(rows), count + len(rows)
    loop.mode(parts, False)
    with torch.no_grad():
        held = loop.judged(parts, data.validation)
        judged = float(loss(model(held), held))
    trained = total / max(1, count)
    rate = parts.optimizer.param_groups[0]["lr"]
    state.history.append(Epoch(parts.epoch, finite(trained), finite(judged), rate, 0.0, watch.epoch()))
