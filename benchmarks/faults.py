"""Runs that fail in a known way, and runs that do not: the cases that `benchmarks.diagnosis` gives to the doctor.

A fault is either settings, as a user would set them, or code: the user's own module, loop or rows. Code faults
run through a plain loop with `training.doctor.watch`, settings through `training.fit.loop.fit`.
"""

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn, optim

from lookalike.training.config import load_config
from lookalike.training.doctor.facts import collect_facts
from lookalike.training.doctor.watch import Watch
from lookalike.training.errors import TrainingError
from lookalike.training.fit.fitting import Fitting, prepare
from lookalike.training.fit.loop import fit
from lookalike.training.fit.split import split_rows
from lookalike.training.history import Epoch, State
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.losses import Loss
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.plan import Data, FitPlan, Hooks
from lookalike.training.rows import Rows, open_rows, read_sample
from lookalike.training.rows.arrays import array_rows
from lookalike.training.rows.builtin import BUILTIN

__all__ = ["DATASETS", "FAULTS", "SIZES", "Fault", "Outcome", "Setting", "healthy_setting", "run_setting"]

DATASETS = ("digits", "fashion-mnist", "wine", "breast_cancer", "diabetes")
SIZES = ("[64, 32]", "[256, 128]")
HERE = ("features.kind='none'", "fit.device='cpu'", "fit.precision='fp32'", "data.validation=0.2")
STEPS = 600
FASHION_ROWS = 1_000
FEW = 20


@dataclass(frozen=True)
class Fault:
    """One way to fail: `settings` over the healthy ones, and changes to rows, module or loop.

    Attributes:
        own_output: the module has its own last layer, which no setting removes.
        keep: these are all the rows that exist; they stay the same when the advice is followed.
    """

    settings: tuple[str, ...] = ()
    rows: Callable[[Data], Data] | None = None
    module: Callable[[Autoencoder], nn.Module] | None = None
    loop: str = ""
    own_output: bool = False
    keep: bool = False


@dataclass(frozen=True)
class Setting:
    """One run: data, size, seed, settings and, optionally, a fault in code."""

    dataset: str
    size: str
    seed: int
    lines: tuple[str, ...] = ()
    fault: Fault | None = None
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a run: the state that the doctor judges, and the share of the clean variance left unexplained."""

    state: State
    unexplained: float


@cache
def raw_rows(dataset: str) -> Rows:
    """The rows of a built-in set, a thousand rows of Fashion-MNIST, or a table that ships with scikit-learn."""
    if dataset in BUILTIN:
        rows = open_rows(dataset)
        inputs, _ = read_sample(rows, FASHION_ROWS, seed=0)
        return array_rows(inputs, dataset, shape=rows.shape)
    from sklearn import datasets

    table = getattr(datasets, f"load_{dataset}")(return_X_y=True)[0]
    return array_rows(np.asarray(table, np.float32), dataset)


def run_setting(setting: Setting) -> Outcome:
    """Split, scale and fit as `training.fit.job` does, except for the fault; uses one thread."""
    torch.set_num_threads(1)
    fault = setting.fault or Fault()
    shipped = [f"model.hidden={setting.size}", f"fit.seed={setting.seed}", *HERE]
    config = load_config(None, [*shipped, *setting.lines, *fault.settings, *setting.advice])
    rows = raw_rows(setting.dataset)
    fitting = prepare(rows, split_rows(rows, config, shown=False), config)
    data = fault.rows(fitting.data) if fault.rows else fitting.data
    model = fault.module(fitting.model) if fault.module else fitting.model
    plan = fitting.plan
    if config.fit.epochs == "auto":
        plan = dataclasses.replace(
            plan, epochs=max(30, math.ceil(STEPS / math.ceil(len(data.train) / plan.batch_size)))
        )
    parts = model, fitting.loss, build_optimizer(config.optimizer, model)
    state = _own_loop(*parts, data, plan, fault.loop) if fault.loop else _fitted(*parts, data, plan)
    return Outcome(state, _unexplained(model, data.validation, fitting))


def _fitted(model: nn.Module, loss: Loss, optimizer: optim.Optimizer, data: Data, plan: FitPlan) -> State:
    state = State()
    with contextlib.suppress(TrainingError):  # refused before the first step: the facts exist already
        fit(model, loss, optimizer, data, plan=plan, hooks=Hooks(), state=state)
    return state


def _own_loop(
    model: nn.Module, loss: Loss, optimizer: optim.Optimizer, data: Data, plan: FitPlan, mistake: str
) -> State:
    """A user's own loop, with the mistake in it, under the watch."""
    if mistake == "missing":
        some = list(model.parameters())[: len(list(model.parameters())) // 2]
        optimizer = optim.Adam(some, lr=optimizer.param_groups[0]["lr"])
    state = State(facts=collect_facts(model, loss, optimizer, data, plan))
    rate = optimizer.param_groups[0]["lr"]
    generator = torch.Generator().manual_seed(plan.seed)
    with Watch(model, optimizer) as watch:
        for number in range(1, plan.epochs + 1):
            model.train()
            total = 0.0
            for batch in torch.split(torch.randperm(len(data.train), generator=generator), plan.batch_size):
                clean = data.train[batch]
                if len(clean) < 2:
                    continue
                seen = plan.corrupt(clean, generator) if plan.corrupt else clean
                if mistake != "stale":
                    optimizer.zero_grad()
                value = loss(model(seen), clean)
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                watch.step(value)
                total += value.item() * len(clean)
            if mistake != "train mode":
                model.eval()
            with torch.no_grad():
                held = float(loss(model(data.validation), data.validation))
            mean = total / len(data.train)
            trained, judged = (loss if math.isfinite(loss) else None for loss in (mean, held))
            state.history.append(Epoch(number, trained, judged, rate, 0.0, watch.epoch()))
            if trained is None or judged is None:
                break
    state.stopped = "finished"
    return state


@torch.no_grad()
def _unexplained(model: nn.Module, held: Tensor, fitting: Fitting) -> float:
    """The share of the clean rows' variance, in the preprocessed unit, that the reconstruction does not explain."""
    model.eval()
    held = held[torch.isfinite(held).all(dim=1)]
    output = model(held)[:, : held.shape[1]]  # without a descriptor's part
    raw = fitting.preprocess.decode(output, logits=fitting.loss.output == "logits")
    value = float((fitting.preprocess.apply(raw) - held).square().mean() / (held - held.mean(dim=0)).square().mean())
    return value if math.isfinite(value) else math.inf


class _Then(nn.Module):
    """The model, followed by a further layer."""

    def __init__(self, model: Autoencoder, last: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.last = model.encoder, model.decoder, last

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.last(self.decoder(self.encoder(rows)))
        return answer


def _dying(model: Autoencoder) -> nn.Module:
    """Set biases far below zero in all hidden layers, as after one leap of the optimizer."""
    for stack in (model.encoder, model.decoder):
        linear = [part for part in stack.modules() if isinstance(part, nn.Linear)]
        for part in linear[:-1]:
            nn.init.constant_(part.bias, -8.0)
    return model


def _loud_weights(model: Autoencoder) -> nn.Module:
    """Draw weights from a normal distribution whose deviation ignores the width."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.Linear):
                part.weight.mul_(4.0)
    return model


def _with_bad_rows(data: Data) -> Data:
    train = data.train.clone()
    train[len(train) // 2, 3] = math.nan
    return dataclasses.replace(data, train=train)


def _with_duplicates(data: Data) -> Data:
    return dataclasses.replace(data, train=torch.cat([data.train, data.validation[: len(data.validation) // 2]]))


def _few_rows(data: Data) -> Data:
    """Twenty rows, evenly spaced, because some tables are sorted by their labels."""
    return dataclasses.replace(data, train=data.train[:: len(data.train) // FEW][:FEW])


def _quiet(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.Linear):
                part.weight.mul_(0.4)
    return model


def _latent_relu(model: Autoencoder) -> nn.Module:
    """Put a ReLU on the latent layer, most of which is never above zero."""
    with torch.no_grad():
        for name, bias in model.encoder.named_parameters():
            last = name, bias
        last[1][torch.arange(len(last[1])) % 4 < 3] = -30.0
    model.encoder.append(nn.ReLU())
    return model


PLAIN, BARE = "model.batch_norm=false", "model.latent_norm=false"
SQUARED = "loss.kind='mse'"
FAULTS: dict[str, tuple[Fault, ...]] = {
    "bad-rows": (Fault(rows=_with_bad_rows),),
    "parameters-missing": (Fault(loop="missing"),),
    "gradients-not-zeroed": (Fault(loop="stale"), Fault(("optimizer.kind='sgd'", "optimizer.lr=1.0"), loop="stale")),
    "judged-in-train-mode": (Fault(("model.dropout=0.2",), loop="train mode"), Fault(loop="train mode")),
    "double-activation": (
        Fault(module=lambda model: _Then(model, nn.Sigmoid()), own_output=True),
        Fault(module=lambda model: _Then(model, nn.Softmax(dim=1)), own_output=True),
    ),
    "wrong-output-range": (
        Fault((SQUARED,), module=lambda model: _Then(model, nn.Sigmoid()), own_output=True),
        Fault((SQUARED,), module=lambda model: _Then(model, nn.Tanh()), own_output=True),
    ),
    "unscaled-inputs": (Fault(("data.scale='none'",)), Fault(("data.scale='none'", PLAIN))),
    "missing-activations": (
        Fault(("model.activation='linear'",)),
        Fault(("model.activation='linear'", "model.hidden=[64,64,64]", PLAIN)),
    ),
    "duplicates-across-split": (Fault(rows=_with_duplicates),),
    "batch-too-small": (Fault(("fit.batch_size=3", "fit.epochs=30")), Fault(("fit.batch_size=4", "fit.epochs=30"))),
    "exploding-gradients": (
        Fault(("optimizer.kind='sgd'", "optimizer.lr=1.0", PLAIN), module=_loud_weights),
        Fault(("model.activation='relu'", PLAIN), module=_loud_weights),
    ),
    "learning-rate-too-high": (
        Fault(("optimizer.lr=1.0", PLAIN)),
        Fault(("optimizer.lr=2.0",)),
        Fault(("optimizer.kind='sgd'", "optimizer.lr=30.0", PLAIN)),
        Fault(("optimizer.lr=0.3", "model.activation='relu'", PLAIN)),
        Fault(("optimizer.kind='sgd'", "optimizer.lr=100.0")),
    ),
    "dead-relus": (Fault(("model.activation='relu'", PLAIN), module=_dying),),
    "vanishing-gradients": (
        Fault(("model.activation='sigmoid'", "model.hidden=[64,64,64,64,64]", PLAIN)),
        Fault(("model.activation='tanh'", "model.hidden=[64,64,64,64,64,64]", PLAIN, BARE), module=_quiet),
        Fault(("model.activation='sigmoid'", "model.hidden=[128,128,64,64]", PLAIN)),
    ),
    "corruption-too-strong": (
        Fault(("corruption.level=8.0",)),
        Fault(("corruption.kind='masking'", "corruption.level=0.97")),
    ),
    "collapsed-latent": (Fault((BARE,), module=_latent_relu), Fault((PLAIN, BARE), module=_latent_relu)),
    "weight-decay-too-strong": (
        Fault(("optimizer.weight_decay=3.0",)),
        Fault(("optimizer.weight_decay=0.2", PLAIN)),
        Fault(("optimizer.kind='adamw'", "optimizer.weight_decay=100", PLAIN)),
    ),
    "learning-rate-too-low": (
        Fault(("optimizer.lr=1e-6",)),
        Fault(("optimizer.lr=5e-6", PLAIN)),
        Fault(("optimizer.kind='sgd'", "optimizer.lr=1e-6")),
    ),
    "too-few-epochs": (Fault(("fit.epochs=2",)), Fault(("fit.epochs=1",)), Fault(("fit.epochs=3", PLAIN))),
    "bottleneck-too-small": (Fault(("model.latent_dim=1",)), Fault(("model.latent_dim=1", PLAIN))),
    "overfitting": (
        Fault(
            ("corruption.kind='none'", "fit.epochs=300", "fit.patience=1000", "fit.batch_size=10"),
            rows=_few_rows,
            keep=True,
        ),
    ),
}
"""The ways to fail with each cause; a study alternates between them."""


def healthy_setting(dataset: str, number: int) -> Setting:
    """A configuration that should do well, drawn by its number."""
    draw = random.Random(number)
    optimizer = draw.choice(["adam", "adam", "adamw", "sgd"])
    corruption = draw.choice(["none", "gaussian", "gaussian", "masking", "swap"])
    lines = [
        f"model.activation='{draw.choice(['relu', 'leaky_relu', 'gelu', 'silu', 'tanh'])}'",
        f"model.batch_norm={draw.choice(['true', 'true', 'false'])}",
        f"model.dropout={draw.choice([0, 0, 0.05])}",
        f"loss.kind='{draw.choice(['bce_logits', 'bce_logits', 'mse', 'mae', 'huber'])}'",
        f"optimizer.kind='{optimizer}'",
        f"optimizer.lr={draw.choice([1e-3, 2e-3, 4e-3]) if optimizer != 'sgd' else draw.choice([0.05, 0.1, 0.2])}",
        f"optimizer.schedule='{draw.choice(['constant', 'cosine', 'one_cycle', 'plateau', 'step'])}'",
        f"optimizer.clip={draw.choice([0, 0, 1])}",
        f"optimizer.weight_decay={draw.choice([0, 0, 1e-4])}",
        f"corruption.kind='{corruption}'",
        f"corruption.level={draw.choice([0.4, 0.8, 1.2] if corruption == 'gaussian' else [0.1, 0.2, 0.3])}",
        f"model.latent_norm={draw.choice(['true', 'true', 'false'])}",
        f"model.latent_noise={draw.choice([0, 0.1])}",
        f"features.kind='{draw.choice(['auto', 'none'])}'",
    ]
    return Setting(dataset, draw.choice(SIZES), number, tuple(lines))
