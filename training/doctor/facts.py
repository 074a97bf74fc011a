"""What is known before the first step: about the rows, the module, and how they belong together."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from lookalike.training.history import finite
from lookalike.training.models.layers import Weighted, fans
from lookalike.training.models.losses import Loss
from lookalike.training.plan import Data, FitPlan
from lookalike.training.rows import fingerprints

__all__ = ["collect_facts", "duplicate_share"]

SAMPLE = 512
WIDEST = 2_048
VALUES = 1 << 23
"""In a sample; in float64, 64 MiB or twice that."""
DIMENSIONS = 256
STRETCH = 50.0
_NONLINEAR = (
    nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.PReLU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Softmax,
)  # fmt: skip
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def collect_facts(
    model: nn.Module, loss: Loss, optimizer: optim.Optimizer, data: Data, plan: FitPlan
) -> dict[str, Any]:
    """All facts, as plain JSON: of the rows and the module below, of the loss, and of the plan.

    bad_rows: how many rows, or their targets, hold a NaN or an infinity; where there are any, no more is asked.
    blurred: the raw columns in which float32 does not hold what tells values apart.
    clipped: how many values are outside the range that the encoder knows, and the first of them as text.
    The model is left as it was, and so are torch's random numbers.
    """
    bad = _bad(data.train, data.train_targets) + _bad(data.validation, data.validation_targets)
    facts = {
        "rows": len(data.train),
        "validation_rows": len(data.validation),
        "columns": data.train.shape[1],
        "bad_rows": bad,
        "blurred": list(data.blurred),
        "clipped": [data.clipped.count, data.clipped.text()],
        "loss": loss.name,
        "wants": loss.output,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "optimizer": type(optimizer).__name__.lower(),
        "rates_differ": len({group.get("initial_lr", group["lr"]) for group in optimizer.param_groups}) > 1,
        "lr": max(group.get("initial_lr", group["lr"]) for group in optimizer.param_groups),
        "clip": plan.clip,
        "decay": max(group.get("weight_decay", 0.0) for group in optimizer.param_groups),
    }
    if bad:
        return facts
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return facts | _of_rows(data, loss, plan) | _of_module(model, optimizer, data.train, plan.batch_size)


def duplicate_share(train: Tensor, validation: Tensor) -> float:
    """The share of validation rows that stand among the training rows, to the last bit."""
    seen, held = (fingerprints(rows.float().flatten(1).cpu().numpy()) for rows in (train, validation))
    return float(np.isin(held, seen).sum()) / max(1, len(held))


def _bad(rows: Tensor, targets: Tensor | None) -> int:
    whole = torch.isfinite(rows).reshape(len(rows), -1).all(dim=1)  # (n,)
    if targets is not None:
        whole &= torch.isfinite(targets).reshape(len(rows), -1).all(dim=1)
    return int((~whole).sum())


def _of_rows(data: Data, loss: Loss, plan: FitPlan) -> dict[str, Any]:
    """From a sample where that does.

    alike: whether all training rows are the same. target_low, target_high: of what the rows should become.
    trivial_loss: what the best constant answer, each column's mean, costs on the validation rows (for classes:
    the entropy of the training rows' shares), and perfect_loss, what an answer without error does (of shares,
    cross-entropy never is 0); None where they leave the numbers. train_trivial_loss and train_perfect_loss: the
    same on the training rows.
    lost: the share of the variance that the corruption takes. spectrum: the share that the best linear
    autoencoder of 1, 2, 3, ... dimensions leaves unexplained; empty where rows have targets of their own.
    """
    sample = _spread(data.train, 4 * SAMPLE)
    target = data.train if data.train_targets is None else data.train_targets
    held = data.validation if data.validation_targets is None else data.validation_targets
    some = _spread(target, 4 * SAMPLE)
    return {
        "alike": _alike(data.train),
        "duplicates": duplicate_share(data.train, data.validation),
        "target_low": float(some.min()),
        "target_high": float(some.max()),
        **_scale(sample[:, : data.numbers]),
        **_bounds(loss, some, _spread(held, 4 * SAMPLE)),
        **{f"train_{name}": value for name, value in _bounds(loss, some, some).items()},
        "lost": _lost(_spread(data.train, SAMPLE), plan),
        "spectrum": _spectrum(_spread(data.train, SAMPLE)) if data.train_targets is None else [],
    }


def _alike(rows: Tensor) -> bool:
    return len(rows) > 1 and all(bool((part == rows[0]).all()) for part in rows.tensor_split(64))


def _scale(sample: Tensor) -> dict[str, float]:
    """Of the columns that are numbers, where there are any; categories are of one scale as they are.

    low, high: of all values. scale: their root mean square. widest_column: the share of all variance that one has.
    """
    if not sample.numel():
        return {}
    sample = sample.double()  # the squares of large values leave float32
    power = sample.var(dim=0, correction=0)  # (numbers,)
    return {
        "low": float(sample.min()),
        "high": float(sample.max()),
        "scale": float(torch.linalg.vector_norm(sample)) / math.sqrt(sample.numel()),
        "widest_column": float(power.max() / power.sum().clamp_min(1e-30)),
        "numbers": sample.shape[1],
    }


def _of_module(model: nn.Module, optimizer: optim.Optimizer, rows: Tensor, batch_size: int) -> dict[str, Any]:
    """Of the model as it stands.

    depth: how many weight matrices (and kernels) it has. widths: of the trainable ones, how many values each gives
    for a row. batch_norm: whether one takes its statistics from rows alone, not from a picture's places too;
    norms: how many there are of any kind.
    missing: trainable parameters that no optimizer moves. smallest_batch: rows in the least of an epoch's batches.
    gain: the largest weight matrix's root mean square times the root of how many values it takes; a layer makes
    values of that size from those of size 1, and sqrt(2) is the largest that a standard initialisation draws
    (He et al. 2015, "Delving deep into rectifiers").
    """
    held = {id(weights) for group in optimizer.param_groups for weights in group["params"]}
    parts = list(model.modules())
    behaviour, gives = _behaviour(model, rows[:64].to(next(model.parameters()).device))
    return {
        "depth": sum(weights.ndim > 1 for weights in model.parameters()),
        "weights": sum(weights.numel() for weights in model.parameters()),
        "widths": [gives.get(id(w), w.shape[0]) for w in model.parameters() if w.ndim > 1 and w.requires_grad],
        "activations": sorted({type(part).__name__ for part in parts if isinstance(part, _NONLINEAR)}),
        "batch_norm": any(isinstance(part, nn.BatchNorm1d) for part in parts),
        "norms": sum(isinstance(part, _NORMS) for part in parts),
        "missing": [name for name, w in model.named_parameters() if w.requires_grad and id(w) not in held],
        "smallest_batch": len(rows) // math.ceil(len(rows) / batch_size),
        "latent_activation": _after_encoder(model),
        "gain": max((_gain(part) for part in parts if isinstance(part, Weighted)), default=0.0),
        **behaviour,
    }


def _gain(layer: Weighted) -> float:
    return float(layer.weight.detach().square().mean().sqrt()) * math.sqrt(fans(layer)[0])


def _after_encoder(model: nn.Module) -> str:
    """The kind of the activation that `model.encoder` ends with, if it does."""
    encoder = getattr(model, "encoder", None)
    last = list(encoder.modules())[-1] if isinstance(encoder, nn.Module) else None
    return type(last).__name__ if isinstance(last, _NONLINEAR) else ""


def _behaviour(model: nn.Module, rows: Tensor) -> tuple[dict[str, Any], dict[int, int]]:
    """Asked some rows, and rows far out, in eval mode; also, how many values each weight matrix gives for a row.

    last: the kind of the part that was called last. answers: the least and the greatest value it gave, where they
    are numbers. sums_to_one: whether each answer does, as a softmax's. affine: whether f(a) + f(b) is
    f(a + b) + f(0), so that it is one matrix product however deep it is.
    """
    half, last, gives = len(rows) // 2, [""], dict[int, int]()

    def on_forward(part: nn.Module, inputs: object, output: Any) -> None:
        last[0] = type(part).__name__
        if isinstance(output, Tensor) and isinstance(weights := getattr(part, "weight", None), Tensor):
            gives[id(weights)] = output.numel() // len(output)

    with _asked(model, on_forward):
        answers = model(torch.cat([rows, STRETCH * rows, -STRETCH * rows])).float()
        edges = [float(edge) for edge in answers.aminmax()]
        return {
            "last": last[0],
            **({"answers": edges} if all(map(math.isfinite, edges)) else {}),
            "sums_to_one": answers.shape[1] > 1 and bool((answers.sum(dim=1) - 1).abs().max() < 1e-3),
            "affine": half > 0 and _is_affine(model, STRETCH * rows[:half], STRETCH * rows[half : 2 * half]),
        }, gives


@contextmanager
def _asked(model: nn.Module, on_forward: Callable[[nn.Module, object, Any], None]) -> Iterator[None]:
    """In eval mode and without gradients, each leaf's calls heard; afterwards everything is as it was."""
    modes = [(part, part.training) for part in model.modules()]
    leaves = [part for part in model.modules() if not list(part.children())]
    handles = [leaf.register_forward_hook(on_forward) for leaf in leaves]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was_training in modes:
            part.training = was_training
        for handle in handles:
            handle.remove()


def _is_affine(ask: Callable[[Tensor], Tensor], one: Tensor, other: Tensor) -> bool:
    origin = ask(torch.zeros_like(one[:1]))
    together, apart = ask(one + other) + origin, ask(one) + ask(other)
    scale = (together - 2 * origin).abs().max()  # 0 where all units are dead: then it says nothing
    return bool((together - apart).abs().max() < 1e-4 * scale)


def _bounds(loss: Loss, targets: Tensor, held: Tensor) -> dict[str, float | None]:
    """What the best constant answer costs, and what the best answer of all does."""
    if loss.target == "classes":
        shares = torch.bincount(targets) / len(targets)
        return {"trivial_loss": float(-(shares * shares.clamp_min(1e-12).log()).sum()), "perfect_loss": 0.0}
    constant = _answer(loss, targets.mean(dim=0)).expand_as(held)
    return {
        "trivial_loss": finite(float(loss(constant, held))),
        "perfect_loss": finite(float(loss(_answer(loss, held), held))),
    }


def _answer(loss: Loss, wanted: Tensor) -> Tensor:
    """The output that says `wanted`, (..., width)."""
    return loss.constant(wanted) if loss.constant else wanted


def _lost(rows: Tensor, plan: FitPlan) -> float:
    """1 - the squared correlation of a clean and a corrupted value, over the columns, weighted by their variance."""
    if plan.corrupt is None:
        return 0.0
    generator = torch.Generator(rows.device).manual_seed(plan.seed)
    seen, clean = plan.corrupt(rows, generator).double(), rows.double()
    clean, seen = clean - clean.mean(dim=0), seen - seen.mean(dim=0)
    shared = (clean * seen).mean(dim=0).square() / seen.square().mean(dim=0).clamp_min(1e-12)  # (width,)
    return float(1 - shared.sum() / clean.square().mean(dim=0).sum().clamp_min(1e-12))


def _spectrum(sample: Tensor) -> list[float]:
    """From the eigenvalues of the sample's Gram matrix; a few thousand columns stand for more."""
    some = sample[:, :: max(1, sample.shape[1] // WIDEST)].double().cpu()
    centred = some - some.mean(dim=0)
    power = torch.linalg.eigvalsh(centred @ centred.T).flip(0).clamp_min(0)  # (n,) greatest first
    left = 1 - power.cumsum(0) / power.sum().clamp_min(1e-300)
    return [round(float(share), 4) for share in left[: min(some.shape[1], DIMENSIONS)]]


def _spread(rows: Tensor, most: int) -> Tensor:
    """Up to twice `most` rows, from all over; fewer of wide ones, so that a sample is small beside the rows."""
    most = max(2, min(most, VALUES // max(1, rows[:1].numel())))
    return rows[:: max(1, len(rows) // most)]
