"""Rules over the rows: what the steps see, what they are compared with, and what is evaluated."""

import math

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation

__all__ = [
    "batches_of_one_kind",
    "input_is_noise",
    "judged_on_other_rows",
    "judged_on_training_rows",
    "loss_ignores_outputs",
    "same_rows_each_step",
    "stale_statistics",
    "target_is_noise",
    "target_of_another_row",
    "trained_in_eval_mode",
]

OWN, FOLLOWS_OUTPUT, EXPECTED = 0.15, 0.05, 0.35
STRUCTURED, SAME_STRUCTURE = 0.5, 0.25
NOISE = 0.97
SILENT = 0.2
KINDS, MANY_KINDS = 4.0, 8.0
ALIKE = 1e-4
FOREIGN, VERY_FOREIGN, GAP = 1.8, 3.0, 1.5
SLOW_STATISTICS, FAST_STATISTICS = 0.005, 0.9


def _pull(case: Case) -> list[float] | None:
    """The pull of the first steps, if the loss leads the output somewhere, and not to the own row."""
    pull = case.first.get("pull")
    if not pull or None in pull or len(pull) < 6:
        return None
    expected = math.sqrt(max(0.0, 1 - case.facts.get("lost", 0.0)))
    leads = pull[1] < FOLLOWS_OUTPUT and abs(pull[0]) < OWN and expected > EXPECTED
    whole = max(share or 0.0 for share in case.first.get("silent") or [0.0]) < SILENT
    return pull if leads and whole else None


def _structures(case: Case, pull: list[float]) -> tuple[float, float]:
    """The mean correlation between the targets' columns, and between the rows', beyond that of as many random rows."""
    by_chance = 1 / max(2, (case.first.get("batches") or {}).get("rows", case.facts.get("batch_size", 1 << 30)))
    targets, rows = (math.sqrt(max(0.0, size**2 - by_chance)) for size in pull[4:6])
    return targets, rows


def target_of_another_row(case: Case) -> Observation | None:
    """Targets that look like the rows, but do not follow their own row."""
    change = "Index rows and targets by the same numbers: shuffle both, or neither"
    link = case.facts.get("link")
    if link and link["same_rows"]:
        return Observation("the targets are the training rows, in another order", change, sure="certain")
    if not (pull := _pull(case)) or pull[2] < SAME_STRUCTURE:
        return None
    seen = f"the loss leads the output to values like those of the rows (correlation of columns {pull[2]:.2f}), but not"
    return Observation(f"{seen} to its own row (cosine {pull[0]:.2f}; the next rows up to {pull[3]:.2f})", change)


def target_is_noise(case: Case) -> Observation | None:
    """Targets that neither follow their own row nor look like rows."""
    change = "Check how the targets are made: nothing in a row predicts them"
    link = case.facts.get("link")
    if link and not link["same_rows"] and link["error"] > NOISE:
        seen = f"other rows predict a target with an error of {link['error']:.2f} of its variance"
        return Observation(seen, change)
    if not (pull := _pull(case)) or pull[2] >= SAME_STRUCTURE:
        return None
    targets, rows = _structures(case, pull)
    if rows <= STRUCTURED * targets:
        return None
    seen = f"the loss leads the output to values that follow neither its own row (cosine {pull[0]:.2f})"
    return Observation(f"{seen} nor the columns' correlations ({pull[2]:.2f})", change)


def input_is_noise(case: Case) -> Observation | None:
    """Rows without the correlations that the targets have."""
    if not (pull := _pull(case)) or pull[2] >= SAME_STRUCTURE:
        return None
    targets, rows = _structures(case, pull)
    if not targets or rows > STRUCTURED * targets:
        return None
    return Observation(
        f"the targets' columns correlate by {targets:.2f}, those of the rows that the model receives by {rows:.2f}",
        "Give the model the rows themselves: what it receives says nothing about the targets",
    )


def loss_ignores_outputs(case: Case) -> Observation | None:
    """Output columns, or rows of a batch, that the loss has no gradient for."""
    silent = case.first.get("silent")
    if not silent or None in silent or not SILENT <= max(silent) < 1:
        return None
    which = "output columns" if silent[0] >= silent[1] else "rows of a batch"
    return Observation(
        f"{max(silent):.0%} of the {which} do not influence the loss",
        "Compare the whole output with the whole target: no index, mask or weight of 0",
    )


def same_rows_each_step(case: Case) -> Observation | None:
    """Steps that all see the same rows, though there are more; or batches that repeat one row."""
    signs = [e.vitals["batches"] for e in case.history if e.vitals.get("batches")]
    if not signs:
        return None
    rows = signs[-1].get("rows", 0)
    if all(one["same"] for one in signs) and rows < 0.7 * case.facts.get("rows", 0):
        seen = f"all observed steps see the same {rows} of {case.facts['rows']} rows"
    elif min(1.0 if one["within"] is None else one["within"] for one in signs) < ALIKE and not case.facts.get("alike"):
        seen = f"the {rows} rows of a batch are the same row"
    else:
        return None
    return Observation(seen, "Take the next rows in each step: for batch in torch.split(torch.randperm(n), size)")


def batches_of_one_kind(case: Case) -> Observation | None:
    """Batches that differ from each other `KINDS` times as much as batches of shuffled rows would."""
    signs = [e.vitals["batches"] for e in case.history if e.vitals.get("batches")]
    if not signs or signs[-1].get("rows", 0) < 4:
        return None
    ratios = sorted((one["between"] or 0.0) * one["rows"] for one in signs)
    ratio = ratios[len(ratios) // 2]
    if ratio < KINDS:
        return None
    seen = f"the means of the batches vary {ratio:.1f} times as much as those of shuffled rows would"
    change = "Shuffle the rows before each epoch"
    return Observation(seen, change, sure="certain" if ratio > MANY_KINDS and len(ratios) > 2 else "likely")


def judged_on_training_rows(case: Case) -> Observation | None:
    """Rows that are evaluated in the run, and are the training rows instead of the validation rows."""
    judged, sketches = case.first.get("judged"), case.facts.get("sketches")
    if not judged or not sketches:
        return None
    seen, train, held = set(judged["sketch"]), set(sketches[0]), set(sketches[1])
    if len(seen & (train - held)) < 0.7 * len(seen) or seen & (held - train):
        return None
    return Observation(
        f"the {judged['rows']} rows that are evaluated are the training rows",
        "Evaluate on rows that were not trained on",
    )


def judged_on_other_rows(case: Case) -> Observation | None:
    """Validation rows whose main directions are not those of the training rows."""
    judged = (case.first.get("judged") or {}).get("foreign") or 0.0
    ratio = max(case.facts.get("foreign") or 0.0, judged)
    worse = bool(case.train) and case.validation[-1] > GAP * case.train[-1]
    if ratio < FOREIGN or not (worse or ratio > VERY_FOREIGN):
        return None
    return Observation(
        f"the main directions of the training rows describe the evaluated rows {ratio:.1f} times worse than other "
        f"training rows",
        "Draw both from one source, at random, with the same preprocessing",
        sure="likely" if worse and ratio > VERY_FOREIGN else "possible",
    )


def trained_in_eval_mode(case: Case) -> Observation | None:
    """Steps while dropout and batch norm are in eval mode."""
    count, looks = (sum(e.vitals.get(key, 0) for e in case.history) for key in ("eval_mode", "looks"))
    if not looks or count < 0.3 * looks:
        return None
    return Observation(
        f"in {count} of {looks} observed steps dropout and batch norm were in eval mode",
        "Call model.train() at the start of each epoch",
    )


def stale_statistics(case: Case) -> Observation | None:
    """A batch norm whose running statistics hardly follow the rows, or follow the last batch only."""
    momenta = case.facts.get("statistics", [])
    slow, fast = min(momenta, default=0.1), max(momenta, default=0.1)
    if slow >= SLOW_STATISTICS and fast < FAST_STATISTICS:
        return None
    value = slow if slow < SLOW_STATISTICS else fast
    return Observation(
        f"a batch norm has a momentum of {value:g}: in eval mode it uses statistics "
        f"{'that never follow the rows' if value == slow else 'of the last batch'}",
        "Leave the momentum of batch norm at 0.1",
    )
