"""The mechanisms of the second study: a name, the causes that name it rightly, and the change of the loop."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from benchmarks.mechanisms import Loop, Parts, Reconstruct
from lookalike.training.plan import Data

__all__ = ["MECHANISMS"]

Change = Callable[[Reconstruct], Any]


def _on(change: Change) -> Callable[[Reconstruct], Reconstruct]:
    """A function that changes a model in place and returns it."""

    def changed(model: Reconstruct) -> Reconstruct:
        change(model)
        return model

    return changed


def _last(function: Callable[[Tensor], Tensor]) -> Loop:
    return Loop(model=_on(lambda model: setattr(model, "last", function)))


def _between(function: Callable[[Tensor], Tensor]) -> Loop:
    return Loop(model=_on(lambda model: setattr(model, "between", function)))


def _frozen(part: Callable[[Reconstruct], nn.Module]) -> Loop:
    return Loop(model=_on(lambda model: part(model).requires_grad_(False)))


def _grads(model: nn.Module) -> list[nn.Parameter]:
    return [w for w in model.parameters() if w.grad is not None]


def _each_gradient(function: Callable[[Tensor], Tensor], when: Callable[[Parts], bool] = lambda parts: True) -> Loop:
    def change(parts: Parts) -> None:
        for w in _grads(parts.model) if when(parts) else []:
            w.grad = function(w.grad)  # type: ignore[arg-type]

    return Loop(gradient=change)


def _zero(of: Callable[[Reconstruct], nn.Module], *, none: bool) -> Loop:
    return Loop(gradient=lambda parts: of(parts.model).zero_grad(set_to_none=none))


def _only(of: Callable[[Any], nn.Module]) -> Loop:
    return Loop(optimizer=lambda model, adam: _made(of(model), adam))


def _made(module: nn.Module, adam: bool, **options: Any) -> optim.Optimizer:
    return optim.Adam(module.parameters(), 2e-3, **options) if adam else optim.SGD(module.parameters(), 0.3)


def _rate(factor: Callable[[int], float]) -> Loop:
    def change(parts: Parts) -> None:
        for group in parts.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor(parts.step)

    return Loop(gradient=change)


def _optimizer(function: Callable[[Any], optim.Optimizer]) -> Loop:
    return Loop(optimizer=lambda model, adam: function(model.parameters()))


def _recreated(parts: Parts) -> None:
    optim.Adam(parts.model.parameters(), 2e-3).step()


def _reset_weights(every: int) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        kept = parts.kept if parts.kept is not None else {}
        kept.setdefault("start", copy.deepcopy(parts.model.state_dict()))
        if parts.step % every == every - 1:
            parts.model.load_state_dict(kept["start"])

    return change


@torch.no_grad()
def _clamped(parts: Parts) -> None:
    for w in parts.model.parameters():
        w.clamp_(-0.02, 0.02)


@torch.no_grad()
def _shaken(parts: Parts) -> None:
    for w in parts.model.parameters():
        w.add_(0.02 * torch.randn_like(w))


def _rolled(parts: Parts, rows: Tensor) -> Tensor:
    return rows.roll(1, 0)


def _any_rows(parts: Parts, rows: Tensor) -> Tensor:
    return parts.data.train[torch.randint(len(parts.data.train), (len(rows),), generator=parts.generator)]


def _noise(parts: Parts, rows: Tensor) -> Tensor:
    return torch.randn(rows.shape, generator=parts.generator)


def _by_size(parts: Parts, order: Tensor) -> Tensor:
    return parts.data.train.sum(dim=1).argsort()


def _by_main_direction(parts: Parts, order: Tensor) -> Tensor:
    values = parts.data.train - parts.data.train.mean(dim=0)
    return (values @ torch.linalg.svd(values, full_matrices=False)[2][0]).argsort()


def _other_rows(change: Callable[[Tensor], Tensor]) -> Callable[[Data], Data]:
    return lambda data: dataclasses.replace(data, validation=change(data.validation))


def _eval(parts: Parts, training: bool) -> None:
    parts.model.eval()


def _train(parts: Parts, training: bool) -> None:
    parts.model.train()


def _drop(share: float) -> Callable[[Reconstruct], Reconstruct]:
    return _on(lambda model: model.encoder.append(nn.Dropout(share)))


def _at(step: int, change: Callable[[Tensor], Tensor]) -> Callable[[Parts, Tensor], Tensor]:
    return lambda parts, rows: change(rows) if parts.step >= step else rows


def _loss(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loop:
    return Loop(loss=lambda parts, loss, output, target: function(loss(output, target), output, target))


def _bad_value(rows: Tensor) -> Tensor:
    rows = rows.clone()
    rows[0, 0] = math.nan
    return rows


def _norms(momentum: float) -> Loop:
    def change(model: Reconstruct) -> None:
        for part in model.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.momentum = momentum
        model.encoder.insert(0, nn.BatchNorm1d(model.encoder[0].in_features, momentum=momentum))  # type: ignore[arg-type]

    return Loop(model=_on(change))


@torch.no_grad()
def _filled(model: Reconstruct, value: float) -> None:
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.weight.fill_(value)


@torch.no_grad()
def _dark(model: Reconstruct) -> None:
    for stack in (model.encoder, model.decoder):
        stack[2] = nn.ReLU()
        stack[1] = nn.Identity()
        stack[0].bias.fill_(-30.0)  # type: ignore[operator]


def _stops_at(epoch: int) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        if parts.epoch == epoch:
            parts.model.encoder.requires_grad_(False)

    return change


def _schedule_free_group(model: nn.Module, adam: bool) -> optim.Optimizer:
    assert isinstance(model, Reconstruct)
    groups = [{"params": list(model.encoder.parameters()), "lr": 0.0}, {"params": list(model.decoder.parameters())}]
    return optim.Adam(groups, 2e-3) if adam else optim.SGD(groups, 0.3)


def _permuted(rows: Tensor) -> Tensor:
    return rows[:, torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(3))]


CUT, FROZEN, ZEROED = ("gradient-cut",), ("frozen-part",), ("gradient-zeroed",)
NEVER, RECREATED = ("optimizer-never-steps",), ("optimizer-recreated", "optimizer-state-lost")
UP, REACH, OVER = ("loss-maximized",), ("wrong-output-range",), ("weights-overwritten",)
OTHER, NOISY = ("target-of-another-row",), ("target-is-noise",)
TINY = ("clipped-to-nothing", "learning-rate-too-low")
OVER_RATE = ("learning-rate-too-high", "exploding-gradients")
KIND = ("batches-of-one-kind",)
FOREIGN = ("judged-on-other-rows",)

MECHANISMS: dict[str, tuple[tuple[str, ...], Loop]] = {
    "encoder frozen": (FROZEN, _frozen(lambda model: model.encoder)),
    "decoder frozen": (FROZEN, _frozen(lambda model: model.decoder)),
    "latent layer frozen": (FROZEN, _frozen(lambda model: model.encoder[3])),
    "frozen in epoch 3": (FROZEN, Loop(after=_stops_at(3))),
    "group at rate 0": (FROZEN, Loop(optimizer=_schedule_free_group)),
    "latent detached": (CUT, _between(lambda latent: latent.detach())),
    "latent through numpy": (CUT, _between(lambda latent: torch.from_numpy(latent.detach().numpy().copy()))),
    "latent rounded": (CUT, _between(torch.round)),
    "latent signed": (CUT, _between(torch.sign)),
    "latent times 0": ((*CUT, "collapsed-latent"), _between(lambda latent: 0.0 * latent)),
    "encoder under no_grad": (
        CUT,
        Loop(model=_on(lambda m: setattr(m.encoder, "forward", torch.no_grad()(m.encoder.forward)))),
    ),
    "loss made anew": (CUT, _loss(lambda value, output, target: value.detach().requires_grad_())),
    "hidden detached": (
        CUT,
        Loop(model=_on(lambda m: m.decoder[2].register_forward_hook(lambda part, seen, out: out.detach()))),
    ),
    "zeroed to None": (ZEROED, _zero(lambda model: model, none=True)),
    "zeroed to 0": (ZEROED, _zero(lambda model: model, none=False)),
    "encoder zeroed": (ZEROED, _zero(lambda model: model.encoder, none=True)),
    "decoder zeroed": (ZEROED, _zero(lambda model: model.decoder, none=False)),
    "encoder not optimized": (("parameters-missing",), _only(lambda model: model.encoder)),
    "decoder not optimized": (("parameters-missing",), _only(lambda model: model.decoder)),
    "optimizer of a copy": (("parameters-missing",), _only(copy.deepcopy)),
    "clipped to 1e-7": (
        TINY,
        Loop(gradient=lambda parts: nn.utils.clip_grad_norm_(parts.model.parameters(), 1e-9) and None),
    ),
    "values clipped to 1e-10": (
        TINY,
        Loop(gradient=lambda parts: nn.utils.clip_grad_value_(parts.model.parameters(), 1e-11)),
    ),
    "gradients times 1e-9": (TINY, _each_gradient(lambda gradient: 1e-9 * gradient)),
    "epsilon of 10": (("epsilon-too-large",), _optimizer(lambda weights: optim.Adam(weights, 2e-3, eps=10.0))),
    "epsilon of 1 in rmsprop": (
        ("epsilon-too-large",),
        _optimizer(lambda weights: optim.RMSprop(weights, 1e-3, eps=10.0)),
    ),
    "epsilon of 1e4 in adamw": (
        ("epsilon-too-large",),
        _optimizer(lambda weights: optim.AdamW(weights, 2e-3, eps=1e4)),
    ),
    "schedule halves each step": (("schedule-ended",), _rate(lambda step: 0.5**step)),
    "schedule ends after 4 steps": (("schedule-ended",), _rate(lambda step: float(step < 4))),
    "warm-up never ends": (("schedule-ended",), _rate(lambda step: 1e-6 * (step + 1))),
    "rate of 0": (("schedule-ended", "learning-rate-too-low"), _rate(lambda step: 0.0)),
    "rate of 1e-8": (("learning-rate-too-low",), _optimizer(lambda weights: optim.Adam(weights, 1e-8))),
    "state cleared": (
        ("optimizer-state-lost",),
        Loop(optimizer=lambda m, adam: _made(m, True), after=lambda p: p.optimizer.state.clear()),
    ),
    "optimizer made each step": (RECREATED, Loop(step=_recreated)),
    "never steps": (NEVER, Loop(step=lambda parts: None)),
    "steps once in 16": (NEVER, Loop(step=lambda p: p.optimizer.step() if p.step % 200 == 199 else None)),
    "weights reset each epoch": (OVER, Loop(after=_reset_weights(16))),
    "weights reset each step": (OVER, Loop(after=_reset_weights(1))),
    "weights clamped": (OVER, Loop(after=_clamped)),
    "weights shaken": (OVER, Loop(after=_shaken)),
    "loss negated": (UP, _loss(lambda value, output, target: -value)),
    "maximize=True": (UP, _optimizer(lambda weights: optim.Adam(weights, 2e-3, maximize=True))),
    "gradients negated": (UP, _each_gradient(lambda gradient: -gradient)),
    "gradients are noise": (
        ("gradient-changed",),
        _each_gradient(lambda g: g.norm() / g.numel() ** 0.5 * torch.randn_like(g)),
    ),
    "gradients shuffled": (
        ("gradient-changed",),
        _each_gradient(lambda g: g.flatten()[torch.randperm(g.numel())].view_as(g)),
    ),
    "target of the next row": (OTHER, Loop(target=_rolled)),
    "target of any row": (OTHER, Loop(target=_any_rows)),
    "target shuffled": (OTHER, Loop(target=lambda p, rows: rows[torch.randperm(len(rows), generator=p.generator)])),
    "targets reversed": (OTHER, Loop(target=lambda parts, rows: rows.flip(0))),
    "target is noise": (NOISY, Loop(target=_noise)),
    "target is uniform noise": (
        NOISY,
        Loop(target=lambda p, rows: 3 * torch.rand(rows.shape, generator=p.generator) - 1.5),
    ),
    "input is noise": (("input-is-noise", "corruption-too-strong"), Loop(seen=_noise)),
    "input is 0": (("input-is-noise", "corruption-too-strong"), Loop(seen=lambda parts, rows: 0 * rows)),
    "loss of the first column": (
        ("loss-ignores-outputs",),
        Loop(loss=lambda p, loss, out, t: loss(out[:, :1], t[:, :1])),
    ),
    "loss of half the columns": (
        ("loss-ignores-outputs",),
        Loop(loss=lambda p, loss, out, t: loss(out[:, ::2], t[:, ::2])),
    ),
    "loss of the first row": (("loss-ignores-outputs",), Loop(loss=lambda p, loss, out, t: loss(out[:1], t[:1]))),
    "validated on training rows": (("judged-on-training-rows",), Loop(judged=lambda parts, rows: parts.data.train)),
    "validation rows trained on": (
        ("duplicates-across-split", "judged-on-training-rows"),
        Loop(data=lambda data: dataclasses.replace(data, validation=data.train[:128])),
    ),
    "validated on noise": (FOREIGN, Loop(judged=_noise)),
    "validation of another scale": (FOREIGN, Loop(data=_other_rows(lambda rows: 4 * rows))),
    "validation shifted": (FOREIGN, Loop(data=_other_rows(lambda rows: rows + 2))),
    "validation columns permuted": (FOREIGN, Loop(data=_other_rows(_permuted))),
    "validated unscaled": (FOREIGN, Loop(judged=lambda parts, rows: 16 * rows + 8)),
    "validated in train mode": (("judged-in-train-mode",), Loop(model=_drop(0.3), mode=_train)),
    "trained in eval mode": (("trained-in-eval-mode",), Loop(model=_drop(0.1), mode=_eval)),
    "sorted by sum": (KIND, Loop(order=_by_size)),
    "sorted by direction": (KIND, Loop(order=_by_main_direction)),
    "same batch": (("same-rows-each-step",), Loop(order=lambda parts, order: torch.arange(32).repeat(16))),
    "one row repeated": (
        ("same-rows-each-step",),
        Loop(seen=lambda p, rows: rows[:1].expand_as(rows), target=lambda p, rows: rows[:1].expand_as(rows)),
    ),
    "output is a relu": (REACH, _last(torch.relu)),
    "output is a softplus": (REACH, _last(functional.softplus)),
    "output is clamped": (REACH, _last(lambda output: output.clamp(-0.5, 0.5))),
    "output is half a tanh": (REACH, _last(lambda output: 0.5 * torch.tanh(output))),
    "output is an exponential": (REACH, _last(lambda output: torch.exp(output.clamp(max=5)))),
    "output is squared": (REACH, _last(lambda output: output**2)),
    "output is a sigmoid": (REACH, _last(torch.sigmoid)),
    "output is a softmax": (REACH, _last(lambda output: output.softmax(dim=1))),
    "output is normalized": (REACH, _last(lambda output: functional.normalize(output, dim=1))),
    "output of one column": (("shapes-differ",), _last(lambda output: output[:, :1])),
    "NaN in a batch": (("nan-from-rows",), Loop(seen=_at(100, _bad_value), target=_at(100, _bad_value))),
    "infinity in a batch": (("nan-from-rows",), Loop(seen=_at(60, lambda rows: rows / 0))),
    "NaN in the targets": (("nan-from-loss",), Loop(target=_at(90, _bad_value))),
    "logarithm of a negative": (
        ("nan-from-loss",),
        Loop(loss=lambda p, loss, out, t: loss(out, t) + (0 if p.step < 70 else (-out.abs().mean()).log())),
    ),
    "root of 0 in the loss": (
        ("nan-from-division", "nan-from-loss"),
        Loop(loss=lambda p, loss, out, t: loss(out, t) + (0 if p.step < 50 else (0 * out).square().sum().sqrt())),
    ),
    "division by 0 in the loss": (
        ("nan-from-loss",),
        Loop(loss=lambda p, loss, out, t: loss(out, t) / (1 if p.step < 80 else 0)),
    ),
    "division in the model": (
        ("nan-from-division",),
        Loop(
            model=_on(
                lambda m: setattr(
                    m,
                    "between",
                    lambda latent: (
                        latent * (1 if latent.abs().mean() < 0.6 or len(latent) > 100 else (0 * latent.sum()) / 0)
                    ),
                )
            )
        ),
    ),
    "batch norm without memory": (("stale-statistics",), _norms(1.0)),
    "batch norm never updated": (("stale-statistics",), _norms(0.0)),
    "weights of 0": (("weights-alike",), Loop(model=_on(lambda model: _filled(model, 0.0)))),
    "weights of 0.1": (("weights-alike",), Loop(model=_on(lambda model: _filled(model, 0.05)))),
    "units dark": (("dead-relus",), Loop(model=_on(_dark))),
    "rate of 5": (OVER_RATE, _optimizer(lambda weights: optim.Adam(weights, 1.0))),
    "rate of 300 for sgd": (OVER_RATE, _optimizer(lambda weights: optim.SGD(weights, 300.0))),
    "loss times 1e5": (
        OVER_RATE,
        Loop(optimizer=lambda m, adam: optim.SGD(m.parameters(), 0.1), loss=lambda p, loss, out, t: 1e5 * loss(out, t)),
    ),
    "momentum of 0.999": (("momentum-too-high",), _optimizer(lambda weights: optim.SGD(weights, 0.3, momentum=0.999))),
    "not zeroed": (("gradients-not-zeroed",), Loop(optimizer=lambda m, adam: _keeping(_made(m, adam)))),
    "latent under dropout of 0.97": (("corruption-too-strong", "unrecognised"), Loop(model=_drop(0.97))),
    "decay of 5": (
        ("weight-decay-too-strong",),
        _optimizer(lambda weights: optim.Adam(weights, 2e-3, weight_decay=5.0)),
    ),
}


def _keeping(optimizer: optim.Optimizer) -> optim.Optimizer:
    """An optimizer whose zero_grad does nothing."""
    optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
    return optimizer
