"""The training loop: three pillars (model, loss, optimizer), five steps, and three hooks. It touches no files.

Everything random in an epoch (the order of the rows, corruption, dropout) depends only on the seed and the
epoch's number, so a run that is resumed at an epoch continues as if it had not been stopped. A run that is resumed
within an epoch also restores the random generators (`training.fit.epoch_batches`).
"""

import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn, optim

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.causes import refuse
from lookalike.training.doctor.facts import collect_facts
from lookalike.training.doctor.watch import Watch
from lookalike.training.fit.epoch_batches import EpochBatches
from lookalike.training.history import Epoch, State, WithinEpoch, finite
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

    device = next(model.parameters()).device
    with Watch(model, optimizer, epochs=len(state.history)) as watch:
        for number in range(len(state.history) + 1, plan.epochs + 1):
            started = time.perf_counter() - (state.within.seconds if state.within else 0.0)
            epoch = EpochBatches(data, plan, state, device)
            if state.within:
                watch.continue_from(state.within)
            on_step = partial(_after_step, watch, epoch, hooks, state, started)
            train_loss = train_epoch(model, loss, optimizer, data, plan=plan, epoch=epoch, on_step=on_step)
            state.within = None
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


def _after_step(watch: Watch, epoch: EpochBatches, hooks: Hooks, state: State, started: float, value: Tensor) -> None:
    watch.step(value)
    hooks.on_step(epoch.step, len(epoch.all))
    if epoch.step < len(epoch.all) and hooks.should_save():
        counts, tensors = watch.within()
        state.within = WithinEpoch(epoch.step, time.perf_counter() - started, counts, tensors | epoch.tensors())
        hooks.on_save(state)


def train_epoch(
    model: nn.Module,
    loss: Loss,
    optimizer: optim.Optimizer,
    data: Data,
    *,
    plan: FitPlan,
    epoch: EpochBatches,
    on_step: Callable[[Tensor], None],
) -> float:
    """Train on the rest of an epoch's batches and return its mean loss; `on_step` receives each step's loss."""
    device = epoch.device
    model.train()
    for batch in epoch.all[epoch.step :]:
        factor = plan.schedule((epoch.number + epoch.step / len(epoch.all)) / plan.epochs, epoch.losses)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        clean, target = _batch(data.train, data.train_targets, batch, device)
        seen = plan.corrupt(clean, epoch.generator) if plan.corrupt else clean
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16):
            output = model(seen)
        value = loss(output.float(), target)
        value.backward()  # type: ignore[no-untyped-call]
        if plan.clip:
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        epoch.total += value.detach() * len(batch)
        epoch.step += 1
        on_step(value)
    return float(epoch.total) / len(data.train)


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
