"""The loop: three pillars (model, loss, optimizer), five steps, and three hooks. It knows no file.

Everything random in an epoch (the order of the rows, corruption, dropout) is drawn from the seed and
the epoch's number alone, so a run that is resumed at an epoch goes on as if it had not been stopped.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn, optim

from training.corruption import Corruption
from training.errors import TrainingError
from training.losses import Loss
from training.optim import Schedule

__all__ = ["Data", "Epoch", "FitPlan", "Hooks", "State", "fit"]


@dataclass(frozen=True)
class Data:
    """Preprocessed rows, (n, width) float32, on the device that trains."""

    train: Tensor
    validation: Tensor


@dataclass(frozen=True)
class FitPlan:
    """What the loop needs to know beside the pillars."""

    epochs: int
    batch_size: int
    patience: int
    seed: int
    schedule: Schedule
    corrupt: Corruption | None = None


@dataclass(frozen=True)
class Epoch:
    """One line of the history; losses are means over all values of all rows."""

    number: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    seconds: float


@dataclass
class State:
    """Where a run stands: enough, with model and optimizer, to go on."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = ""


@dataclass(frozen=True)
class Hooks:
    """What the outside may see and say."""

    on_step: Callable[[], None] = lambda: None
    on_epoch: Callable[[State], None] = lambda state: None
    should_stop: Callable[[], bool] = lambda: False


def fit(
    model: nn.Module, loss: Loss, optimizer: optim.Optimizer, data: Data, *, plan: FitPlan, hooks: Hooks, state: State
) -> State:
    """Train until the plan, the patience or the outside says stop; `model` ends with its best weights.

    Raises:
        TrainingError: the loss is NaN or infinite.
    """
    for number in range(len(state.history) + 1, plan.epochs + 1):
        started = time.perf_counter()
        train_loss, rate = _train_epoch(
            model, loss, optimizer, data.train, plan=plan, number=number, on_step=hooks.on_step
        )
        validation_loss = _validate(model, loss, data.validation, plan)
        _require_finite(train_loss, validation_loss, number, plan.schedule(0.0))
        state.history.append(Epoch(number, train_loss, validation_loss, rate, time.perf_counter() - started))
        if number == 1 or validation_loss < state.history[state.best_epoch - 1].validation_loss:
            state.best_epoch = number
            state.best_weights = copy.deepcopy(model.state_dict())
        state.stopped = _reason_to_stop(state, plan, hooks)
        hooks.on_epoch(state)
        if state.stopped:
            break
    model.load_state_dict(state.best_weights)
    model.eval()
    return state


def _train_epoch(
    model: nn.Module,
    loss: Loss,
    optimizer: optim.Optimizer,
    rows: Tensor,
    *,
    plan: FitPlan,
    number: int,
    on_step: Callable[[], None],
) -> tuple[float, float]:
    """One pass over the shuffled rows; returns the mean loss and the last learning rate."""
    generator = _seeded(plan.seed, number, rows.device)
    order = torch.randperm(len(rows), generator=generator, device=rows.device)
    batches = order.tensor_split(math.ceil(len(rows) / plan.batch_size))  # equal to within one row
    total = torch.zeros((), device=rows.device)
    rate = 0.0
    model.train()
    for step, batch in enumerate(batches):
        rate = plan.schedule((number - 1 + step / len(batches)) / plan.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate
        clean = rows[batch]  # (batch, width)
        seen = plan.corrupt(clean, generator) if plan.corrupt else clean
        optimizer.zero_grad()
        value = loss(model(seen), clean)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += value.detach() * len(batch)  # stays on the device: no stall per step
        on_step()
    return float(total) / len(rows), rate


@torch.inference_mode()
def _validate(model: nn.Module, loss: Loss, rows: Tensor, plan: FitPlan) -> float:
    """The same question as in training, with the same noise each time."""
    model.eval()
    generator = torch.Generator(rows.device).manual_seed(plan.seed)
    total = torch.zeros((), device=rows.device)
    for clean in torch.split(rows, plan.batch_size):
        seen = plan.corrupt(clean, generator) if plan.corrupt else clean
        total += loss(model(seen), clean) * len(clean)
    return float(total) / len(rows)


def _seeded(seed: int, number: int, device: torch.device) -> torch.Generator:
    mixed = (seed * 1_000_003 + number) % (1 << 62)
    torch.manual_seed(mixed)  # dropout draws from the global generator
    return torch.Generator(device).manual_seed(mixed)


def _require_finite(train_loss: float, validation_loss: float, number: int, rate: float) -> None:
    if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
        raise TrainingError(
            f"loss in epoch {number}",
            expected="a finite number",
            found=f"{train_loss} in training, {validation_loss} in validation, at a learning rate of {rate:g}",
            remedy=f"Lower it: --set optimizer.lr={rate / 10:.1g}",
        )


def _reason_to_stop(state: State, plan: FitPlan, hooks: Hooks) -> str:
    number = len(state.history)
    if number == plan.epochs:
        return "finished"
    if number - state.best_epoch >= plan.patience:
        return "patience"
    return "interrupted" if hooks.should_stop() else ""
