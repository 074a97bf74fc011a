"""Rules over the values: what the output can reach, and where the first NaN came from."""

from typing import Any

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation, advise

__all__ = ["nan_from_division", "nan_from_loss", "nan_from_rows", "nan_origin", "out_of_reach", "shapes_differ"]

BEYOND = 0.02
GREW, WILD_STEP, GRADIENT_GREW = 10.0, 0.3, 1e3


def out_of_reach(case: Case) -> Observation | None:
    """Targets beyond an edge of the output that no weights can move, or outputs that all have the same length."""
    facts = case.facts
    beyond, floor, ceiling = facts.get("beyond", 0.0), facts.get("floor"), facts.get("ceiling")
    if beyond > BEYOND:
        edges = [
            f"below {floor:.3g}" if floor is not None else "",
            f"above {ceiling:.3g}" if ceiling is not None else "",
        ]
        edge = " or ".join(filter(None, edges))
        seen = f"the output is never {edge}, and {beyond:.0%} of the values that it should have are"
    elif facts.get("fixed_norm"):
        seen = "all outputs have the same length, and the targets do not"
    else:
        return None
    return advise(seen, "model.output=linear")


def shapes_differ(case: Case) -> Observation | None:
    """An output of one column that is compared with targets of several, or the reverse: broadcasting hides it."""
    output, target = case.facts.get("output_width", 1), case.facts.get("target_width", 1)
    if output == target or 1 not in (output, target) or case.facts.get("loss") == "cross_entropy":
        return None
    seen = f"an output has {output} values and a target {target}: each is compared with all of the other"
    return Observation(seen, "Make both of the same shape: (rows, columns)")


def nan_origin(case: Case) -> str:
    """Return where the first loss that is not finite came from: rows, loss, division, growth; "" without any."""
    for number, epoch in enumerate(case.history):
        vitals = epoch.vitals
        nan, judged = vitals.get("nan"), vitals.get("judged_nan")
        if nan:
            return _origin(case, number, nan)
        if epoch.train_loss is not None and epoch.validation_loss is None and judged:
            return "division" if judged["rows"] else "rows"
        if epoch.train_loss is None or epoch.validation_loss is None:
            return "growth"
    return ""


def _origin(case: Case, number: int, nan: dict[str, Any]) -> str:
    if nan.get("rows") is False:
        return "rows"
    if _had_grown(case, number, nan) or "output" not in nan:
        return "growth"
    return "loss" if nan["output"] else "division"


def _had_grown(case: Case, number: int, nan: dict[str, Any]) -> bool:
    """Whether the losses, the gradients or the steps had grown before."""
    vitals = case.history[number].vitals
    finite = [loss for loss in case.train[:number] if loss != float("inf")]
    updates = [size for size in vitals.get("update", []) if size is not None]
    earlier = [size for size in (case.first.get("update") or []) if size is not None] if number else []
    norm, first = vitals.get("worst_norm"), vitals.get("first_norm")
    return (
        (nan.get("grew") or 1.0) > GREW
        or (bool(finite) and finite[-1] > 3 * min(finite))
        or max([*updates, *earlier], default=0.0) > WILD_STEP
        or (norm is not None and first is not None and 0 < GRADIENT_GREW * first < norm)
    )


def nan_from_rows(case: Case) -> Observation | None:
    """Rows with NaN or infinity that a step or an evaluation received, though the rows before it had none."""
    if nan_origin(case) != "rows":
        return None
    return Observation(
        f"the rows of {_when(case)} contain NaN or infinity",
        "Look for a division by 0 or a logarithm in the code that makes the batches",
    )


def nan_from_loss(case: Case) -> Observation | None:
    """A finite output whose loss is not finite."""
    if nan_origin(case) != "loss":
        return None
    return Observation(
        f"in {_when(case)} the output is finite and the loss is not; nothing had grown before",
        "Look for a logarithm, a root or a division in the loss, and for NaN in the targets",
    )


def nan_from_division(case: Case) -> Observation | None:
    """Finite rows whose output is not finite, though nothing had grown."""
    if nan_origin(case) != "division":
        return None
    return Observation(
        f"in {_when(case)} the rows are finite and the output is not; neither losses nor steps had grown before",
        "Look for a division or a root of 0 in the model, or in the loss of the step before: add a small number",
    )


def _when(case: Case) -> str:
    for epoch in case.history:
        if nan := epoch.vitals.get("nan"):
            return f"step {nan['step'] + 1} of epoch {epoch.number}"
        if epoch.validation_loss is None:
            return f"the evaluation after epoch {epoch.number}"
    return "a step"
