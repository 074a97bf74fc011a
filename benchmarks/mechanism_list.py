"""The mechanisms of the second study: a name, the causes that name it rightly, and the change of the loop."""

import copy
import dataclasses

import torch
from torch import nn, optim
from torch.nn import functional

from benchmarks.mechanism_parts import (
    any_rows,
    at_latent,
    at_output,
    at_rate,
    bad_value,
    by_main_direction,
    by_size,
    changed_by,
    clamped,
    dark,
    dropping,
    each_gradient,
    eval_mode,
    filled,
    from_step,
    frozen,
    keeping,
    made,
    noise,
    optimizing,
    other_rows,
    permuted,
    recreated,
    reset_weights,
    rolled,
    schedule_free_group,
    shaken,
    stops_at,
    train_mode,
    with_loss,
    with_norms,
    with_optimizer,
    zeroed,
)
from benchmarks.mechanisms import Loop

__all__ = ["MECHANISMS"]

CUT, FROZEN, ZEROED = ("gradient-cut",), ("frozen-part",), ("gradient-zeroed",)
NEVER, RECREATED = ("optimizer-never-steps",), ("optimizer-recreated", "optimizer-state-lost")
UP, REACH, OVER = ("loss-maximized",), ("wrong-output-range",), ("weights-overwritten",)
OTHER, NOISY = ("target-of-another-row",), ("target-is-noise",)
TINY = ("clipped-to-nothing", "learning-rate-too-low")
OVER_RATE = ("learning-rate-too-high", "exploding-gradients")
KIND = ("batches-of-one-kind",)
FOREIGN = ("judged-on-other-rows",)

MECHANISMS: dict[str, tuple[tuple[str, ...], Loop]] = {
    "encoder frozen": (FROZEN, frozen(lambda model: model.encoder)),
    "decoder frozen": (FROZEN, frozen(lambda model: model.decoder)),
    "latent layer frozen": (FROZEN, frozen(lambda model: model.encoder[3])),
    "frozen in epoch 3": (FROZEN, Loop(after=stops_at(3))),
    "group at rate 0": (FROZEN, Loop(optimizer=schedule_free_group)),
    "latent detached": (CUT, at_latent(lambda latent: latent.detach())),
    "latent through numpy": (CUT, at_latent(lambda latent: torch.from_numpy(latent.detach().numpy().copy()))),
    "latent rounded": (CUT, at_latent(torch.round)),
    "latent signed": (CUT, at_latent(torch.sign)),
    "latent times 0": ((*CUT, "collapsed-latent"), at_latent(lambda latent: 0.0 * latent)),
    "encoder under no_grad": (
        CUT,
        Loop(model=changed_by(lambda m: setattr(m.encoder, "forward", torch.no_grad()(m.encoder.forward)))),
    ),
    "loss made anew": (CUT, with_loss(lambda value, output, target: value.detach().requires_grad_())),
    "hidden detached": (
        CUT,
        Loop(model=changed_by(lambda m: m.decoder[2].register_forward_hook(lambda part, seen, out: out.detach()))),
    ),
    "zeroed to None": (ZEROED, zeroed(lambda model: model, none=True)),
    "zeroed to 0": (ZEROED, zeroed(lambda model: model, none=False)),
    "encoder zeroed": (ZEROED, zeroed(lambda model: model.encoder, none=True)),
    "decoder zeroed": (ZEROED, zeroed(lambda model: model.decoder, none=False)),
    "encoder not optimized": (("parameters-missing",), optimizing(lambda model: model.encoder)),
    "decoder not optimized": (("parameters-missing",), optimizing(lambda model: model.decoder)),
    "optimizer of a copy": (("parameters-missing",), optimizing(copy.deepcopy)),
    "clipped to 1e-7": (
        TINY,
        Loop(gradient=lambda parts: nn.utils.clip_grad_norm_(parts.model.parameters(), 1e-9)),
    ),
    "values clipped to 1e-10": (
        TINY,
        Loop(gradient=lambda parts: nn.utils.clip_grad_value_(parts.model.parameters(), 1e-11)),
    ),
    "gradients times 1e-9": (TINY, each_gradient(lambda gradient: 1e-9 * gradient)),
    "epsilon of 10": (("epsilon-too-large",), with_optimizer(lambda weights: optim.Adam(weights, 2e-3, eps=10.0))),
    "epsilon of 1 in rmsprop": (
        ("epsilon-too-large",),
        with_optimizer(lambda weights: optim.RMSprop(weights, 1e-3, eps=10.0)),
    ),
    "epsilon of 1e4 in adamw": (
        ("epsilon-too-large",),
        with_optimizer(lambda weights: optim.AdamW(weights, 2e-3, eps=1e4)),
    ),
    "schedule halves each step": (("schedule-ended",), at_rate(lambda step: 0.5**step)),
    "schedule ends after 4 steps": (("schedule-ended",), at_rate(lambda step: float(step < 4))),
    "warm-up never ends": (("schedule-ended",), at_rate(lambda step: 1e-6 * (step + 1))),
    "rate of 0": (("schedule-ended", "learning-rate-too-low"), at_rate(lambda step: 0.0)),
    "rate of 1e-8": (("learning-rate-too-low",), with_optimizer(lambda weights: optim.Adam(weights, 1e-8))),
    "state cleared": (
        ("optimizer-state-lost",),
        Loop(optimizer=lambda m, adam: made(m, True), after=lambda p: p.optimizer.state.clear()),
    ),
    "optimizer made each step": (RECREATED, Loop(step=recreated)),
    "never steps": (NEVER, Loop(step=lambda parts: None)),
    "steps once in 16": (NEVER, Loop(step=lambda p: p.optimizer.step() if p.step % 200 == 199 else None)),
    "weights reset each epoch": (OVER, Loop(after=reset_weights(16))),
    "weights reset each step": (OVER, Loop(after=reset_weights(1))),
    "weights clamped": (OVER, Loop(after=clamped)),
    "weights shaken": (OVER, Loop(after=shaken)),
    "loss negated": (UP, with_loss(lambda value, output, target: -value)),
    "maximize=True": (UP, with_optimizer(lambda weights: optim.Adam(weights, 2e-3, maximize=True))),
    "gradients negated": (UP, each_gradient(lambda gradient: -gradient)),
    "gradients are noise": (
        ("gradient-changed",),
        each_gradient(lambda g: g.norm() / g.numel() ** 0.5 * torch.randn_like(g)),
    ),
    "gradients shuffled": (
        ("gradient-changed",),
        each_gradient(lambda g: g.flatten()[torch.randperm(g.numel())].view_as(g)),
    ),
    "target of the next row": (OTHER, Loop(target=rolled)),
    "target of any row": (OTHER, Loop(target=any_rows)),
    "target shuffled": (OTHER, Loop(target=lambda p, rows: rows[torch.randperm(len(rows), generator=p.generator)])),
    "targets reversed": (OTHER, Loop(target=lambda parts, rows: rows.flip(0))),
    "target is noise": (NOISY, Loop(target=noise)),
    "target is uniform noise": (
        NOISY,
        Loop(target=lambda p, rows: 3 * torch.rand(rows.shape, generator=p.generator) - 1.5),
    ),
    "input is noise": (("input-is-noise", "corruption-too-strong"), Loop(seen=noise)),
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
    "validated on noise": (FOREIGN, Loop(judged=noise)),
    "validation of another scale": (FOREIGN, Loop(data=other_rows(lambda rows: 4 * rows))),
    "validation shifted": (FOREIGN, Loop(data=other_rows(lambda rows: rows + 2))),
    "validation columns permuted": (FOREIGN, Loop(data=other_rows(permuted))),
    "validated unscaled": (FOREIGN, Loop(judged=lambda parts, rows: 16 * rows + 8)),
    "validated in train mode": (("judged-in-train-mode",), Loop(model=dropping(0.3), mode=train_mode)),
    "trained in eval mode": (("trained-in-eval-mode",), Loop(model=dropping(0.1), mode=eval_mode)),
    "sorted by sum": (KIND, Loop(order=by_size)),
    "sorted by direction": (KIND, Loop(order=by_main_direction)),
    "same batch": (("same-rows-each-step",), Loop(order=lambda parts, order: torch.arange(32).repeat(16))),
    "one row repeated": (
        ("same-rows-each-step",),
        Loop(seen=lambda p, rows: rows[:1].expand_as(rows), target=lambda p, rows: rows[:1].expand_as(rows)),
    ),
    "output is a relu": (REACH, at_output(torch.relu)),
    "output is a softplus": (REACH, at_output(functional.softplus)),
    "output is clamped": (REACH, at_output(lambda output: output.clamp(-0.5, 0.5))),
    "output is half a tanh": (REACH, at_output(lambda output: 0.5 * torch.tanh(output))),
    "output is an exponential": (REACH, at_output(lambda output: torch.exp(output.clamp(max=5)))),
    "output is squared": (REACH, at_output(lambda output: output**2)),
    "output is a sigmoid": (REACH, at_output(torch.sigmoid)),
    "output is a softmax": (REACH, at_output(lambda output: output.softmax(dim=1))),
    "output is normalized": (REACH, at_output(lambda output: functional.normalize(output, dim=1))),
    "output of one column": (("shapes-differ",), at_output(lambda output: output[:, :1])),
    "NaN in a batch": (("nan-from-rows",), Loop(seen=from_step(100, bad_value), target=from_step(100, bad_value))),
    "infinity in a batch": (("nan-from-rows",), Loop(seen=from_step(60, lambda rows: rows / 0))),
    "NaN in the targets": (("nan-from-loss",), Loop(target=from_step(90, bad_value))),
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
            model=changed_by(
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
    "batch norm without memory": (("stale-statistics",), with_norms(1.0)),
    "batch norm never updated": (("stale-statistics",), with_norms(0.0)),
    "weights of 0": (("weights-alike",), Loop(model=changed_by(lambda model: filled(model, 0.0)))),
    "weights of 0.1": (("weights-alike",), Loop(model=changed_by(lambda model: filled(model, 0.05)))),
    "units dark": (("dead-relus",), Loop(model=changed_by(dark))),
    "rate of 5": (OVER_RATE, with_optimizer(lambda weights: optim.Adam(weights, 1.0))),
    "rate of 300 for sgd": (OVER_RATE, with_optimizer(lambda weights: optim.SGD(weights, 300.0))),
    "loss times 1e5": (
        OVER_RATE,
        Loop(optimizer=lambda m, adam: optim.SGD(m.parameters(), 0.1), loss=lambda p, loss, out, t: 1e5 * loss(out, t)),
    ),
    "momentum of 0.999": (
        ("momentum-too-high",),
        with_optimizer(lambda weights: optim.SGD(weights, 0.3, momentum=0.999)),
    ),
    "not zeroed": (("gradients-not-zeroed",), Loop(optimizer=lambda m, adam: keeping(made(m, adam)))),
    "latent under dropout of 0.97": (("corruption-too-strong", "unrecognised"), Loop(model=dropping(0.97))),
    "decay of 5": (
        ("weight-decay-too-strong",),
        with_optimizer(lambda weights: optim.Adam(weights, 2e-3, weight_decay=5.0)),
    ),
}
