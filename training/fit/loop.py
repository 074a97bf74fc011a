"""The training loop: three pillars (model, loss, optimizer), five steps, and three hooks. It touches no files.

Everything random in an epoch (the order of the rows, corruption, dropout) depends only on the seed and the
epoch's number, so a run that is resumed at an epoch continues as if it had not been stopped.
"""

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn, optim

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.causes import refuse
from lookalike.training.doctor.facts import collect_facts
from lookalike.training.doctor.watch import Watch
from lookalike.training.history import Epoch, State, finite
from lookalike.training.models.losses import Loss
from lookalike.training.plan import Data, FitPlan, Hooks

__all__ = ["fit", "train_epoch"]


def fit(
    model: nn.Module, loss: Loss, optimizer: optim.Optimizer, data: Data, *, plan: FitPlan, hooks: Hooks, state: State
) -> State:
    """Train until the plan, the patience, the doctor or a hook ends the run; `model` ends with its best weights.

    `state.stopped` is the reason: "finished", "patience", "interrupted" or "hopeless". For "hopeless",
    `training.doctor.causes.diagnose(state)` returns the causes. Raises TrainingError, before the first step, if the
    doctor is certain that training cannot work.
    """
    state.facts = state.facts or collect_facts(model, loss, optimizer, data, plan)
    refuse(state)

    def on_step(value: Tensor) -> None:
        watch.step(value)
        hooks.on_step()

    with Watch(model, optimizer) as watch:
        for number in range(len(state.history) + 1, plan.epochs + 1):
            started = time.perf_counter()
            train_loss = train_epoch(model, loss, optimizer, data, plan=plan, state=state, on_step=on_step)
            validation_loss = _validate(model, loss, data, plan)
            rate = optimizer.param_groups[0]["lr"]
            lines = (finite(train_loss), finite(validation_loss), rate, time.perf_counter() - started)
            state.history.append(Epoch(number, *lines, watch.epoch()))
            _keep_best(model, state)
            state.stopped = _reason_to_stop(state, plan, hooks)
            hooks.on_epoch(state)
            if state.stopped:
                break
    if state.best_weights:
        model.load_state_dict(state.best_weights)
    model.eval()
    return state


def train_epoch(
    model: nn.Module,
    loss: Loss,
    optimizer: optim.Optimizer,
    data: Data,
    *,
    plan: FitPlan,
    state: State,
    on_step: Callable[[Tensor], None],
) -> float:
    """Train for one pass over the shuffled rows and return the mean loss; `on_step` receives each step's loss."""
    device = next(model.parameters()).device
    number, count = len(state.history), len(data.train)
    losses = [math.inf if epoch.validation_loss is None else epoch.validation_loss for epoch in state.history]
    generator = _seeded(plan.seed, number + 1, device)
    order = torch.randperm(count, generator=generator, device=device).to(data.train.device)
    batches = order.tensor_split(math.ceil(count / plan.batch_size))  # equal to within one row
    total = torch.zeros((), device=device)
    model.train()
    for step, batch in enumerate(batches):
        factor = plan.schedule((number + step / len(batches)) / plan.epochs, losses)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        clean, target = _batch(data.train, data.train_targets, batch, device)
        seen = plan.corrupt(clean, generator) if plan.corrupt else clean
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16):
            output = model(seen)
        value = loss(output.float(), target)
        value.backward()  # type: ignore[no-untyped-call]
        if plan.clip:
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        total += value.detach() * len(batch)  # stays on the device: no stall per step
        on_step(value)
    return float(total) / count


@torch.no_grad()
def _validate(model: nn.Module, loss: Loss, data: Data, plan: FitPlan) -> float:
    """Return the validation loss on rows that are corrupted as in training, with the same noise in every epoch."""
    model.eval()
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(plan.seed)
    total = torch.zeros((), device=device)
    for batch in torch.split(torch.arange(len(data.validation), device=data.validation.device), plan.batch_size):
        clean, target = _batch(data.validation, data.validation_targets, batch, device)
        seen = plan.corrupt(clean, generator) if plan.corrupt else clean
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16):
            output = model(seen)
        total += loss(output.float(), target) * len(clean)
    return float(total) / len(data.validation)


def _batch(rows: Tensor, targets: Tensor | None, batch: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    clean = rows[batch].to(device, non_blocking=True)  # (batch, width)
    return clean, clean if targets is None else targets[batch].to(device, non_blocking=True)


def _seeded(seed: int, number: int, device: torch.device) -> torch.Generator:
    mixed = (seed * 1_000_003 + number) % (1 << 62)
    torch.manual_seed(mixed)  # dropout draws from the global generator
    return torch.Generator(device).manual_seed(mixed)


def _keep_best(model: nn.Module, state: State) -> None:
    last = state.history[-1].validation_loss
    best = state.history[state.best_epoch - 1].validation_loss if state.best_epoch else None
    if last is not None and (best is None or last < best):
        state.best_epoch = len(state.history)
        state.best_weights = copy.deepcopy(model.state_dict())


def _reason_to_stop(state: State, plan: FitPlan, hooks: Hooks) -> str:
    number = len(state.history)
    if Case.of(state).hopeless:
        return "hopeless"
    if number == plan.epochs:
        return "finished"
    if number - state.best_epoch >= plan.patience:
        return "patience"
    return "interrupted" if hooks.should_stop() else ""
