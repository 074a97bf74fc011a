"""Rules over the steps: which gradient reaches a matrix, what becomes of it, and what moves."""

from collections.abc import Iterator
from typing import Any

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation, advise

__all__ = [
    "clipped_to_nothing",
    "epsilon_too_large",
    "frozen_part",
    "gradient_changed",
    "gradient_cut",
    "gradient_zeroed",
    "loss_maximized",
    "momentum_too_high",
    "optimizer_never_steps",
    "optimizer_recreated",
    "optimizer_state_lost",
    "schedule_ended",
    "weights_alike",
    "weights_overwritten",
]

HALF = 0.5
CLIPPED, SMALL_STEP = 0.02, 1e-3
EPSILON = 10.0
RATE_LEFT, ENDED, POOR = 0.01, 0.4, 0.4
LOST = 0.3
UNDONE = 0.05
TURNED = 0.5
FOLLOWS = 0.12
RARE, ENOUGH_STEPS = 0.05, 20
LASTING = 0.995
UNLIT = 0.05
ALIKE = 1e-4


def _looked(case: Case) -> Iterator[dict[str, Any]]:
    """The vital signs of the epochs in which the optimizer took observed steps, with finite losses."""
    return (e.vitals for e in case.history if e.vitals.get("reached") and e.train_loss is not None)


def _ends(case: Case) -> list[dict[str, Any]]:
    """The signs of the first and of the last such epoch."""
    looked = list(_looked(case))
    return [looked[0], looked[-1]] if looked else []


def _places(which: list[int], of: int) -> str:
    shown = ", ".join(str(number + 1) for number in which[:6])
    return f"weight matrix {shown} of {of}" if len(which) == 1 else f"weight matrices {shown} of {of}"


def frozen_part(case: Case) -> Observation | None:
    """A layer whose weights need no gradient, or have a learning rate of 0 while others have one."""
    change = "Call requires_grad_(True) on its parameters before the optimizer is made, unless it is frozen on purpose"
    if names := case.facts.get("frozen", []):
        return Observation(f"{len(names)} weight matrices need no gradient: {', '.join(names[:4])}", change)
    for vitals in _ends(case):
        if which := [n for n, frozen in enumerate(vitals["frozen"]) if frozen]:
            return Observation(f"during the run {_places(which, len(vitals['frozen']))} stopped needing one", change)
        still = [n for n, share in enumerate(vitals["still"]) if share]
        if still and len(still) < len(vitals["still"]):
            seen = f"{_places(still, len(vitals['still']))} has a learning rate of 0, and the others do not"
            return Observation(seen, "Give the parameter group a learning rate")
    return None


def gradient_cut(case: Case) -> Observation | None:
    """A matrix that needs a gradient, and that no backward pass reaches, or only with zeros though units are on.

    Zeros are evidence in the first epoch only: later, weights that a decay has made 0 pass no gradient.
    """
    for vitals in _ends(case):
        count = len(vitals["reached"])
        cut = [n for n, share in enumerate(vitals["reached"]) if not share and not vitals["frozen"][n]]
        if len(cut) == count:
            return Observation(
                "the optimizer steps, and the backward pass gives no matrix a gradient",
                "Call loss.backward() on the loss of the model's own output, without detach() or numpy() before",
            )
        if cut:
            return Observation(
                f"the backward pass gives {_places(cut, count)} no gradient at all (None); the others get one",
                "Look for detach(), no_grad(), .data or numpy() between this layer and the loss, or for a layer that "
                "the forward pass does not use",
            )
    return _gradient_of_zeros(case)


def _gradient_of_zeros(case: Case) -> Observation | None:
    vitals = case.first
    if not vitals.get("arrived") or not case.history or case.history[0].train_loss is None:
        return None
    within = (vitals.get("batches") or {}).get("within")
    constant = within is not None and within < ALIKE
    zeros = [n for n, share in enumerate(vitals["arrived"]) if not share]
    dark = any((share or 0) <= UNLIT for share in vitals.get("lit", [1.0]))
    if not zeros or len(zeros) == len(vitals["arrived"]) or dark or constant or case.facts.get("alike_units"):
        return None
    return Observation(
        f"the gradient of {_places(zeros, len(vitals['arrived']))} is exactly 0 in all observed steps, though its "
        f"units are on",
        "Look for an operation without a slope after this layer: round(), sign(), argmax(), or a factor 0",
    )


def gradient_zeroed(case: Case) -> Observation | None:
    """A matrix whose gradient arrives, and is 0 or None when the optimizer reads it."""
    for vitals in _ends(case):
        pairs = list(zip(vitals["arrived"], vitals["used"], strict=True))
        if which := [n for n, (arrived, used) in enumerate(pairs) if arrived > HALF and used < HALF * arrived]:
            return Observation(
                f"a gradient reaches {_places(which, len(pairs))}, and is gone when optimizer.step() reads it",
                "Call optimizer.zero_grad() before loss.backward(), not between backward() and step()",
            )
    return None


def optimizer_never_steps(case: Case) -> Observation | None:
    """Losses of steps, but no step of the optimizer, or hardly any, and weights that nothing else changes."""
    for epoch in case.history:
        steps, moves = epoch.vitals.get("steps", 0), epoch.vitals.get("moves")
        if moves is None or steps < 2 or (not moves and epoch.vitals["edited"]):
            continue
        if not moves or (moves < RARE * steps and steps >= ENOUGH_STEPS):
            return Observation(
                f"epoch {epoch.number} has {steps} losses and {moves} optimizer steps",
                "Call optimizer.step() after each loss.backward()",
            )
    return None


def optimizer_recreated(case: Case) -> Observation | None:
    """Weights that change while the watched optimizer takes no step: another optimizer moves them."""
    for epoch in case.history:
        if epoch.vitals.get("steps") and epoch.vitals.get("moves") == 0 and epoch.vitals["edited"]:
            return Observation(
                f"in epoch {epoch.number} the weights change, and the watched optimizer takes no step: another does",
                "Make the optimizer once, before the first epoch: a new one has lost its moments",
            )
    return None


def optimizer_state_lost(case: Case) -> Observation | None:
    """An optimizer whose state is empty, or begins again, at a large share of the observed steps."""
    lost, looks = (sum(e.vitals.get(key, 0) for e in case.history) for key in ("lost", "looks"))
    if not looks or lost / looks <= LOST:
        return None
    return Observation(
        f"at {lost} of {looks} observed steps the optimizer had lost its moments",
        "Keep one optimizer for the whole run, and do not clear or reload its state between steps",
    )


def weights_overwritten(case: Case) -> Observation | None:
    """Weights that something else than the optimizer changes between two steps."""
    change = "Look for load_state_dict(), copy_() or clamp_() on the weights inside the loop"
    if again := [e.number for e in case.history if e.vitals.get("returned")]:
        return Observation(f"epoch {again[0]} moves the weights, and ends with those that it began with", change)
    worst = max((e.vitals.get("undone") or 0.0 for e in case.history if e.train_loss is not None), default=0.0)
    if worst <= UNDONE:
        return None
    return Observation(
        f"between two steps something else than the optimizer changed the weights, by {worst:.2g} times a step", change
    )


def clipped_to_nothing(case: Case) -> Observation | None:
    """Gradients that are cut to under `CLIPPED` of their norm, and steps too short to learn with."""
    kept, update = case.first.get("kept"), case.largest_update
    if kept is None or kept <= 0 or kept >= CLIPPED or update >= SMALL_STEP or case.best < POOR:
        return None
    seen = f"of the gradient's norm {kept:.1e} is left when the optimizer reads it, and a step moves no matrix by more "
    return advise(f"{seen}than {update:.1e} of its norm", "optimizer.clip=1.0")


def epsilon_too_large(case: Case) -> Observation | None:
    """An optimizer's epsilon that is `EPSILON` times as large as the gradients that it is added to."""
    eps, sizes = case.facts.get("eps", 0.0), [size for size in case.first.get("gradient", []) if size]
    if not sizes or eps <= 1e-6 or eps < EPSILON * max(sizes) or case.largest_update >= SMALL_STEP * 10:
        return None
    seen = (
        f"the optimizer divides by the gradient's size plus an epsilon of {eps:g}; the gradients are {max(sizes):.1e}"
    )
    return Observation(seen, "Leave eps at its default, 1e-8")


def schedule_ended(case: Case) -> Observation | None:
    """A learning rate below `RATE_LEFT` of its greatest value, during a share `ENDED` of the epochs."""
    rates = [v["rates"][1] for v in _looked(case) if v.get("rates") and v["rates"][1] is not None]
    if not rates or not (peak := max(case.facts.get("lr", 0.0), *rates)):
        return None
    ended = sum(rate < RATE_LEFT * peak for rate in rates) / len(rates)
    if ended < ENDED or case.best < POOR:
        return None
    return Observation(
        f"in {ended:.0%} of the epochs the learning rate is below {RATE_LEFT:.0%} of {peak:g}; the last one is "
        f"{rates[-1]:.1e}",
        "--set optimizer.schedule=cosine, or let the schedule count as many steps as the run has",
        ("optimizer.schedule='cosine'",),
    )


def loss_maximized(case: Case) -> Observation | None:
    """Steps along the gradient instead of against it, or a gradient that leads the output away from its row."""
    first = case.first
    along, turned, pull = first.get("along_first"), first.get("turned"), first.get("pull")
    if along is not None and along < -TURNED:
        seen = f"the first step follows the gradient upwards: its cosine with the descent is {along:.2f}"
    elif turned is not None and turned < -TURNED:
        seen = f"the gradient is reversed before the step: its cosine with the gradient that arrived is {turned:.2f}"
    elif pull and None not in pull[:2] and pull[0] < -FOLLOWS and pull[1] > FOLLOWS:
        seen = (
            f"the loss pushes the output away from its own row (cosine {pull[0]:.2f}) and away from 0 ({pull[1]:.2f})"
        )
    else:
        return None
    return Observation(seen, "Minimize the loss: no minus sign before it, and maximize=False")


def gradient_changed(case: Case) -> Observation | None:
    """A gradient whose direction at the step is not that in which it arrived."""
    turned = case.first.get("turned")
    if turned is None or not -TURNED <= turned < TURNED:
        return None
    return Observation(
        f"the cosine of the gradient at the step with the gradient that arrived is {turned:.2f}",
        "Look for code that changes .grad between backward() and step()",
    )


def weights_alike(case: Case) -> Observation | None:
    """A matrix whose units all begin with the same weights: they get the same gradients, and remain one unit."""
    if not (names := case.facts.get("alike_units", [])):
        return None
    return Observation(
        f"all units of {', '.join(names[:4])} begin with the same weights",
        "Draw the initial weights at random: layer.reset_parameters()",
    )


def momentum_too_high(case: Case) -> Observation | None:
    """An optimizer that keeps more than `LASTING` of its last step."""
    if (momentum := case.facts.get("momentum", 0.0)) < LASTING:
        return None
    return Observation(
        f"each step keeps {momentum:g} of the last one: a gradient acts for {1 / max(1e-9, 1 - momentum):.0f} steps",
        "Use a momentum (betas[0]) of 0.9",
    )
