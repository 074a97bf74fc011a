"""The changes of a loop from which the mechanisms of the second study are made."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim

from benchmarks.mechanisms import Loop, Parts, Reconstruct
from lookalike.training.plan import Data

__all__ = [
    "any_rows",
    "at_latent",
    "at_output",
    "at_rate",
    "bad_value",
    "by_main_direction",
    "by_size",
    "changed_by",
    "clamped",
    "dark",
    "dropping",
    "each_gradient",
    "eval_mode",
    "filled",
    "from_step",
    "frozen",
    "grads",
    "keeping",
    "made",
    "noise",
    "optimizing",
    "other_rows",
    "permuted",
    "recreated",
    "reset_weights",
    "rolled",
    "schedule_free_group",
    "shaken",
    "stops_at",
    "train_mode",
    "with_loss",
    "with_norms",
    "with_optimizer",
    "zeroed",
]

Change = Callable[[Reconstruct], Any]


def changed_by(change: Change) -> Callable[[Reconstruct], Reconstruct]:
    """A function that changes a model in place and returns it."""

    def changed(model: Reconstruct) -> Reconstruct:
        change(model)
        return model

    return changed


def at_output(function: Callable[[Tensor], Tensor]) -> Loop:
    return Loop(model=changed_by(lambda model: setattr(model, "last", function)))


def at_latent(function: Callable[[Tensor], Tensor]) -> Loop:
    return Loop(model=changed_by(lambda model: setattr(model, "between", function)))


def frozen(part: Callable[[Reconstruct], nn.Module]) -> Loop:
    return Loop(model=changed_by(lambda model: part(model).requires_grad_(False)))


def grads(model: nn.Module) -> list[nn.Parameter]:
    return [w for w in model.parameters() if w.grad is not None]


def each_gradient(function: Callable[[Tensor], Tensor], when: Callable[[Parts], bool] = lambda parts: True) -> Loop:
    def change(parts: Parts) -> None:
        for w in grads(parts.model) if when(parts) else []:
            w.grad = function(w.grad)  # type: ignore[arg-type]

    return Loop(gradient=change)


def zeroed(of: Callable[[Reconstruct], nn.Module], *, none: bool) -> Loop:
    return Loop(gradient=lambda parts: of(parts.model).zero_grad(set_to_none=none))


def optimizing(of: Callable[[Any], nn.Module]) -> Loop:
    return Loop(optimizer=lambda model, adam: made(of(model), adam))


def made(module: nn.Module, adam: bool, **options: Any) -> optim.Optimizer:
    return optim.Adam(module.parameters(), 2e-3, **options) if adam else optim.SGD(module.parameters(), 0.3)


def at_rate(factor: Callable[[int], float]) -> Loop:
    def change(parts: Parts) -> None:
        for group in parts.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor(parts.step)

    return Loop(gradient=change)


def with_optimizer(function: Callable[[Any], optim.Optimizer]) -> Loop:
    return Loop(optimizer=lambda model, adam: function(model.parameters()))


def recreated(parts: Parts) -> None:
    optim.Adam(parts.model.parameters(), 2e-3).step()


def reset_weights(every: int) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        kept = parts.kept if parts.kept is not None else {}
        kept.setdefault("start", copy.deepcopy(parts.model.state_dict()))
        if parts.step % every == every - 1:
            parts.model.load_state_dict(kept["start"])

    return change


@torch.no_grad()
def clamped(parts: Parts) -> None:
    for w in parts.model.parameters():
        w.clamp_(-0.02, 0.02)


@torch.no_grad()
def shaken(parts: Parts) -> None:
    for w in parts.model.parameters():
        w.add_(0.02 * torch.randn_like(w))


def rolled(parts: Parts, rows: Tensor) -> Tensor:
    return rows.roll(1, 0)


def any_rows(parts: Parts, rows: Tensor) -> Tensor:
    return parts.data.train[torch.randint(len(parts.data.train), (len(rows),), generator=parts.generator)]


def noise(parts: Parts, rows: Tensor) -> Tensor:
    return torch.randn(rows.shape, generator=parts.generator)


def by_size(parts: Parts, order: Tensor) -> Tensor:
    return parts.data.train.sum(dim=1).argsort()


def by_main_direction(parts: Parts, order: Tensor) -> Tensor:
    values = parts.data.train - parts.data.train.mean(dim=0)
    main: Tensor = torch.linalg.svd(values, full_matrices=False)[2][0]
    return (values @ main).argsort()


def other_rows(change: Callable[[Tensor], Tensor]) -> Callable[[Data], Data]:
    return lambda data: dataclasses.replace(data, validation=change(data.validation))


def eval_mode(parts: Parts, training: bool) -> None:
    parts.model.eval()


def train_mode(parts: Parts, training: bool) -> None:
    parts.model.train()


def dropping(share: float) -> Callable[[Reconstruct], Reconstruct]:
    return changed_by(lambda model: model.encoder.append(nn.Dropout(share)))


def from_step(step: int, change: Callable[[Tensor], Tensor]) -> Callable[[Parts, Tensor], Tensor]:
    return lambda parts, rows: change(rows) if parts.step >= step else rows


def with_loss(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loop:
    return Loop(loss=lambda parts, loss, output, target: function(loss(output, target), output, target))


def bad_value(rows: Tensor) -> Tensor:
    rows = rows.clone()
    rows[0, 0] = math.nan
    return rows


def with_norms(momentum: float) -> Loop:
    def change(model: Reconstruct) -> None:
        for part in model.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.momentum = momentum
        model.encoder.insert(0, nn.BatchNorm1d(model.encoder[0].in_features, momentum=momentum))  # type: ignore[arg-type]

    return Loop(model=changed_by(change))


@torch.no_grad()
def filled(model: Reconstruct, value: float) -> None:
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.weight.fill_(value)


@torch.no_grad()
def dark(model: Reconstruct) -> None:
    for stack in (model.encoder, model.decoder):
        stack[2] = nn.ReLU()
        stack[1] = nn.Identity()
        stack[0].bias.fill_(-30.0)  # type: ignore[operator]


def stops_at(epoch: int) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        if parts.epoch == epoch:
            parts.model.encoder.requires_grad_(False)

    return change


def schedule_free_group(model: nn.Module, adam: bool) -> optim.Optimizer:
    assert isinstance(model, Reconstruct)
    groups: list[dict[str, Any]] = [
        {"params": list(model.encoder.parameters()), "lr": 0.0},
        {"params": list(model.decoder.parameters())},
    ]
    return optim.Adam(groups, 2e-3) if adam else optim.SGD(groups, 0.3)


def permuted(rows: Tensor) -> Tensor:
    return rows[:, torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(3))]


def keeping(optimizer: optim.Optimizer) -> optim.Optimizer:
    """An optimizer whose zero_grad does nothing."""
    optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
    return optimizer
