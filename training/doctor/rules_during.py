"""Rules over the history: diagnoses that need a run. A rule sees the facts and the epochs, never the model."""

import math
from dataclasses import replace

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation, Sure, advise
from lookalike.training.doctor.rules_values import nan_origin

__all__ = [
    "collapsed_latent",
    "dead_relus",
    "exploding_gradients",
    "gradients_not_zeroed",
    "judged_in_train_mode",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "overfitting",
    "too_early",
    "too_few_epochs",
    "underfitting",
    "vanishing_gradients",
    "weight_decay_too_strong",
]

GOOD_RATES = {"adam": 2e-3, "adamw": 2e-3, "sgd": 0.05}
"""Half of the default rates, advised to a run that failed at its rate: a rate slightly too low still learns."""
GOOD_SGD_RATE_FOR_LOGITS = 1.0
"""Cross-entropy over shares has smaller gradients than a squared error."""
LOUD = 20.0
LOUD_GAIN = 1.5
"""Slightly more than the largest gain of a standard initialization, sqrt(2)."""
LEAP = 10.0
WILD_STEP, LONG_STEP, SHORT_STEP = 0.3, 0.1, 1e-4
FADED, FAINT = 5e-3, 3e-3
DEEP = 6
DEAD_UNITS = 0.5
DEAD_DIMENSIONS = 0.3
GAP, WIDE_GAP = 2.0, 0.15
STILL_GOOD = 0.4
HEAVY = {"adam": 0.02, "adamw": 1.0, "sgd": 0.05}
MUCH_TOO_HEAVY = 9.9
STILL_FALLING = 0.05
VERY_FEW_STEPS, FEW_STEPS = 100, 300
WELL_DONE = 0.2
EARLY_EPOCHS = 2
LITTLE_LEARNED = 0.8
STRANGE = 1.5
MUCH_TOO_HIGH = 20.0
NOT_GROWN = {"rows", "loss", "division"}


def gradients_not_zeroed(case: Case) -> Observation | None:
    """A gradient of an earlier step that was still present when backward began; once is enough."""
    stale, looks = (sum(e.vitals.get(key, 0) for e in case.history) for key in ("stale", "looks"))
    if not stale:
        return None
    return Observation(
        f"in {stale} of {looks} observed steps the gradient of an earlier step was still present when backward began",
        "Call optimizer.zero_grad() before loss.backward()",
    )


def judged_in_train_mode(case: Case) -> Observation | None:
    """Calls without gradients while dropout or batch norm was in train mode; one epoch is enough."""
    count = sum(bool(epoch.vitals.get("train_mode")) for epoch in case.history)
    if not count:
        return None
    return Observation(
        f"in {count} of {len(case.history)} epochs the model was validated with dropout or batch norm in train mode",
        "Call model.eval() before validation and model.train() after it",
    )


def exploding_gradients(case: Case) -> Observation | None:
    """A first loss, before any step, above `LOUD` times that of a constant answer, or not finite.

    The learning rate cannot be the cause. Weights with a gain above `LOUD_GAIN` are the cause if there are any.
    """
    if "first_norm" not in case.first:
        return None
    loss, norm = case.relative(case.first.get("first_loss"), "train_"), case.first["first_norm"]
    if loss <= LOUD or nan_origin(case) in {"rows", "loss"}:
        return None
    size = "not finite" if norm is None else f"{norm:.3g}"
    seen = f"before any step the loss is {loss:.3g} times a constant answer's, and the gradient norm is {size}"
    if (gain := case.facts.get("gain", 0.0)) > LOUD_GAIN:
        return Observation(
            f"{seen}; the weights of a layer make values {gain:.3g} times as large",
            "Use a standard initialization of the weights: layer.reset_parameters(), or nn.init.kaiming_normal_",
        )
    return advise(seen, "model.batch_norm=true", "optimizer.clip=1.0")


def learning_rate_too_high(case: Case) -> Observation | None:
    """A hopeless run, steps longer than `WILD_STEP` of a layer's norm, or a jump in the first epoch.

    A jump: the loss exceeds `LEAP` times its first value and `LEAP` times a constant answer's, or the steps are longer
    than `LONG_STEP`. A run that still reached a loss below `STILL_GOOD` has recovered from its jump.
    """
    facts, update = case.facts, case.largest_update
    first, worst = (case.relative(case.first.get(key), "train_") for key in ("first_loss", "worst_loss"))
    jumped = bool(case.history) and worst > LEAP * max(1.0, first)
    jumped = (jumped or update > LONG_STEP) and case.best >= STILL_GOOD
    if not (case.hopeless or update > WILD_STEP or jumped) or nan_origin(case) in NOT_GROWN:
        return None
    good = _good_rate(case)
    lower = good if facts["lr"] > 3 * good else facts["lr"] / 10
    moved = f", and a typical step moved a layer by {update:.0%} of its norm" if math.isfinite(update) else ""
    seen = f"at a learning rate of {facts['lr']:g} the loss {_describe_loss(case, first, worst)}{moved}"
    sure: Sure = "likely" if update > WILD_STEP or facts["lr"] > MUCH_TOO_HIGH * good else "possible"
    return replace(advise(seen, *_at_rate(case, lower)), sure=sure)


def _at_rate(case: Case, lr: float) -> tuple[str, ...]:
    """Return the settings of a learning rate; a separate decoder rate is set to the same rate."""
    same = ("optimizer.decoder_lr=same",) if case.facts.get("rates_differ") else ()
    return f"optimizer.lr={lr:.2g}", *same


def _is_clipped(case: Case) -> bool:
    """Whether the first gradient was clipped to the norm `clip`."""
    clip, norm = case.facts.get("clip", 0.0), case.first.get("first_norm")
    return bool(clip) and norm is not None and norm >= 0.5 * clip  # `norm` leaves out biases and norm layers


def _good_rate(case: Case) -> float:
    kind = case.facts.get("optimizer", "")
    if kind == "sgd" and case.facts.get("wants") == "logits":
        return GOOD_SGD_RATE_FOR_LOGITS
    return GOOD_RATES.get(kind, 1e-3)


def _describe_loss(case: Case, first: float, worst: float) -> str:
    """Describe the losses of a run whose learning rate was too high."""
    if case.has_nonfinite_loss:
        return "became NaN or infinite"
    if case.hopeless:
        return f"rose to {case.train[-1]:.3g} times a constant answer's"
    return f"went from {first:.3g} to {worst:.3g} times a constant answer's"


def learning_rate_too_low(case: Case) -> Observation | None:
    """Steps of less than `SHORT_STEP` of each layer's norm in the first epoch, and a loss that stayed above half."""
    update = case.largest_update
    if not case.first.get("update") or update >= SHORT_STEP or case.best < 0.5:
        return None
    if _is_clipped(case) and case.facts["clip"] < 1 and case.facts.get("optimizer") == "sgd":
        moved = f"a typical step moved no layer by more than {update:.1e} of its norm"
        return advise(f"gradients are clipped to a norm of {case.facts['clip']:g}, and {moved}", "optimizer.clip=1.0")
    good = _good_rate(case)
    higher = good if case.facts["lr"] < good else 10 * case.facts["lr"]
    return advise(
        f"a typical step moved no layer by more than {update:.1e} of its norm; "
        f"the loss is still {case.best:.0%} of a constant answer's",
        *_at_rate(case, higher),
    )


def vanishing_gradients(case: Case) -> Observation | None:
    """Over at least `DEEP` layers, the gradient of the first is below `FADED` of the largest, or all are `FAINT`.

    Only the gradient of the first step counts: later, small gradients can be a sign of success. No finding if more
    than `DEAD_UNITS` of a layer's units have no gradient, if a small norm is due to clipping, or if at least every
    second layer is normalized.
    """
    gradient = case.first.get("first_gradient", [])
    if len(gradient) < DEEP or None in gradient or not max(gradient) or case.dead_at_first > DEAD_UNITS:
        return None
    if 2 * case.facts.get("norms", 0) >= len(gradient):
        return None
    first, greatest, norm = gradient[0], max(gradient), case.first["first_norm"] or math.inf
    if first / greatest >= FADED and (norm >= FAINT or _is_clipped(case)):
        return None
    names = f" with {', '.join(activations)}" if (activations := case.facts.get("activations")) else ""
    fell = f"falls from {greatest:.1e} to {first:.1e} in the first" if first < greatest else f"is only {first:.1e}"
    seen = f"through {len(gradient)} layers{names} the gradient {fell}; its total norm is {norm:.1e}"
    return advise(seen, "model.activation=silu", "model.batch_norm=true")


def dead_relus(case: Case) -> Observation | None:
    """More than `DEAD_UNITS` of a layer's units have no gradient; for the narrowest layer see `collapsed_latent`."""
    if case.dead_hidden <= DEAD_UNITS or not _has_dark_units(case):
        return None
    seen = f"{case.dead_hidden:.0%} of a layer's units had no gradient in any observed step of an epoch"
    return advise(seen, "model.activation=silu", "model.batch_norm=true")


def _has_dark_units(case: Case) -> bool:
    """Whether units of a layer are never above 0; true if that was not observed."""
    lit = [share for share in case.last.get("lit", []) if share is not None]
    return not lit or min(lit) < 1 - DEAD_UNITS / 2


def collapsed_latent(case: Case) -> Observation | None:
    """More than `DEAD_DIMENSIONS` of the latent dimensions do not vary, and no dead layer before them is the cause."""
    latent, after = case.last.get("latent"), case.facts.get("latent_activation", "")
    if not latent or latent["dead"] <= DEAD_DIMENSIONS or (case.dead_hidden > DEAD_UNITS and not after):
        return None
    seen = (
        f"{latent['dead']:.0%} of the latent dimensions are the same for every row; "
        f"the effective number of dimensions is {latent['rank']:.1f}"
    )
    if after:
        return Observation(seen, f"Remove the {after} from the latent layer")
    return advise(seen, "model.batch_norm=true")


def weight_decay_too_strong(case: Case) -> Observation | None:
    """A decay of the optimizer's `HEAVY` or more, and no loss below `STILL_GOOD`; or a decay ten times as large."""
    decay, kind = case.facts.get("decay", 0.0), case.facts.get("optimizer", "")
    heavy = decay / HEAVY.get(kind, 1.0)
    if not case.history or heavy < 1 or (case.best < STILL_GOOD and heavy < MUCH_TOO_HEAVY):
        return None
    finite = math.isfinite(case.best)
    reached = f"a best loss of {case.best:.0%} of a constant answer's" if finite else "no finite loss"
    return advise(f"a decay of {decay:g} with {kind}, and {reached}", "optimizer.weight_decay=0.0")


def overfitting(case: Case) -> Observation | None:
    """The last validation loss is over `GAP` times the training loss and over `WIDE_GAP` above it."""
    if not case.train or case.validation[-1] <= max(GAP * case.train[-1], case.train[-1] + WIDE_GAP):
        return None
    return Observation(
        f"the loss is {case.train[-1]:.2f} of a constant answer's on training rows "
        f"and {case.validation[-1]:.2f} on held-out rows",
        "--set model.dropout=0.5 (more rows would help more)",
        ("model.dropout=0.5",),
        sure=None if _grew_apart(case) else "possible",
    )


def _grew_apart(case: Case) -> bool:
    """Whether the validation loss was near the training loss at first: else the rows differ, not what was learned."""
    judged = (case.first.get("judged") or {}).get("foreign") or 0.0
    strange = max(case.facts.get("foreign") or 0.0, judged) > STRANGE
    return not strange and case.validation[0] < GAP * case.train[0] + WIDE_GAP


def too_early(case: Case) -> Observation | None:
    """At most `EARLY_EPOCHS` epochs, and losses that are finite. Replaces the findings that need more epochs."""
    if not 0 < len(case.history) <= EARLY_EPOCHS or case.hopeless:
        return None
    epochs, planned = len(case.history), case.facts.get("epochs", 0)
    seen = f"after {epochs} {'epoch' if epochs == 1 else 'epochs'}, {case.steps} steps, the loss is {case.best:.2f} of"
    seen = f"{seen} a constant answer's"
    if planned > EARLY_EPOCHS:
        return Observation(f"{seen}; {planned} epochs were planned", "Continue the run with --resume")
    return advise(seen, "fit.epochs=auto")


def too_few_epochs(case: Case) -> Observation | None:
    """Fewer than `FEW_STEPS` steps, a loss above `WELL_DONE`, and one that fell by `STILL_FALLING` in the second half.

    With fewer than `VERY_FEW_STEPS` no slope can be measured, and the loss alone decides. No finding for a run that
    ran out of patience, was interrupted, or is still running.
    """
    unfinished = not case.stopped and len(case.history) < case.facts.get("epochs", 0)
    if unfinished or case.stopped in {"patience", "interrupted"}:
        return None
    end, middle = case.curve_at(0.9), case.curve_at(0.5)
    if not case.steps or case.steps >= FEW_STEPS or case.best < WELL_DONE or case.has_nonfinite_loss:
        return None
    if case.steps >= VERY_FEW_STEPS and middle < (1 + STILL_FALLING) * end:
        return None
    slope = f", and halfway it was {middle:.2f}" if case.steps >= VERY_FEW_STEPS else ""
    return advise(f"after {case.steps} steps the loss is {end:.2f} of a constant answer's{slope}", "fit.epochs=auto")


def underfitting(case: Case) -> Observation | None:
    """A best loss of at least `LITTLE_LEARNED`: almost nothing was learned. Reported only without any other finding."""
    if not LITTLE_LEARNED <= case.best < math.inf:
        return None
    seen = f"the best validation loss is {case.best:.0%} of a constant answer's"
    lines = ("model.dropout=0.0", "model.latent_noise=0.1", "model.hidden=[512,256]")
    return advise(seen, *_at_rate(case, _good_rate(case)), *lines)
