"""Rules over the facts alone: diagnoses that are possible before the first step.

A rule takes a case and returns the evidence and the change, or None. The thresholds were chosen on some seeds of
`benchmarks/diagnosis.py`, which reports results on other seeds.
"""

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation, advise

__all__ = [
    "bad_rows",
    "batch_of_one",
    "batch_too_small",
    "blurred_columns",
    "bottleneck_too_small",
    "corruption_too_strong",
    "double_activation",
    "duplicates",
    "far_values",
    "missing_activations",
    "missing_parameters",
    "rows_alike",
    "unscaled_inputs",
    "wrong_output_range",
]

DUPLICATES = 0.10
LARGEST_SCALE, SMALLEST_SCALE = 5.0, 0.06
WIDEST_COLUMN = 0.7
SMALLEST_BATCH = 8
NAMED = 4
LOST, LOST_LOSS = 0.85, 0.4
UNEXPLAINED = 0.5
NOTICEABLE, ENOUGH = 0.2, 0.15
WELL_DONE = 0.1
SQUASHED = {"Sigmoid": (0.0, 1.0), "Hardsigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
SLACK, NEAR_END = 1e-3, 5e-3


def bad_rows(case: Case) -> Observation | None:
    """Training or validation rows that contain NaN or infinity; a single one is enough."""
    if not (count := case.facts.get("bad_rows", 0)):
        return None
    return Observation(
        f"{count} of {case.facts['rows'] + case.facts['validation_rows']} rows contain NaN or infinity",
        "Drop or correct them: rows = rows[torch.isfinite(rows).all(dim=1)]",
    )


def rows_alike(case: Case) -> Observation | None:
    """Training rows that are all equal."""
    if not case.facts.get("alike"):
        return None
    return Observation(
        f"all {case.facts['rows']} training rows are the same",
        "Check how the rows were made: they contain nothing that distinguishes one item from another",
    )


def missing_parameters(case: Case) -> Observation | None:
    """Trainable parameters that are in no group of the optimizer; a single one is enough."""
    if not (missing := case.facts.get("missing", [])):
        return None
    return Observation(
        f"{len(missing)} trainable parameters are in no group of the optimizer: {', '.join(missing[:4])}",
        "Pass all parameters: optimizer = Adam(model.parameters()); freeze some on purpose with requires_grad_(False)",
    )


def batch_of_one(case: Case) -> Observation | None:
    """Batch norm over a batch of fewer than 2 rows, which it cannot compute at all."""
    return batch_too_small(case) if case.facts.get("smallest_batch", 2) < 2 else None


def duplicates(case: Case) -> Observation | None:
    """More than a share `DUPLICATES` of the validation rows also occur among the training rows."""
    share = case.facts.get("duplicates", 0.0)
    if share <= DUPLICATES:
        return None
    return Observation(
        f"{share:.0%} of the validation rows also occur among the training rows, bit for bit",
        "Remove duplicates before the split, or keep equal rows in one part",
    )


def double_activation(case: Case) -> Observation | None:
    """A loss that expects logits, and a model that ends with a sigmoid or softmax or whose output looks like one."""
    facts = case.facts
    if facts.get("wants") != "logits" or "answers" not in facts:
        return None
    low, high = facts["answers"]
    squashed = _looks_squashed(low, high) == (0.0, 1.0) or (facts["sums_to_one"] and low >= 0)
    if not (squashed or facts["last"] in {"Sigmoid", "Softmax"}):
        return None
    name = "softmax" if facts["sums_to_one"] else "sigmoid"
    how = "ends with" if facts["last"] in SQUASHED else "behaves like"
    return Observation(
        f"the loss {facts['loss']} expects logits, and the model {how} a {name}: [{low:.3g}, {high:.3g}]",
        f"Remove the {name} from the model: --set model.output=linear",
        ("model.output=linear",),
    )


def wrong_output_range(case: Case) -> Observation | None:
    """Targets outside of the range of the output activation, known or observed, by more than `SLACK`."""
    facts = case.facts
    if "answers" not in facts or facts["wants"] == "logits":
        return None
    reach = SQUASHED.get(facts["last"]) or _looks_squashed(*facts["answers"])
    low, high = facts["target_low"], facts["target_high"]
    if not reach or (reach[0] - SLACK <= low and high <= reach[1] + SLACK):
        return None
    return Observation(
        f"the model's output is within [{reach[0]:g}, {reach[1]:g}], its targets are within [{low:.3g}, {high:.3g}]",
        "--set model.output=linear (or --set data.scale=range)",
        ("model.output=linear",),
    )


def _looks_squashed(low: float, high: float) -> tuple[float, float] | None:
    """Return the range, [0, 1] or [-1, 1], whose ends the outputs for extreme rows approach but never pass, or None."""
    for least, most in ((0.0, 1.0), (-1.0, 1.0)):
        if least <= low < least + NEAR_END and most - NEAR_END < high <= most:
            return least, most
    return None


def unscaled_inputs(case: Case) -> Observation | None:
    """One of more than 3 numeric columns has over `WIDEST_COLUMN` of all variance, or values have a bad scale.

    The root mean square should be within `SMALLEST_SCALE` and `LARGEST_SCALE`. If all values are 0, no scale helps.
    """
    facts = case.facts
    if "scale" not in facts:
        return None
    scale, widest, columns = facts["scale"], facts["widest_column"], facts["numbers"]
    if columns > 3 and widest > WIDEST_COLUMN:
        seen = f"one of {columns} columns has {widest:.0%} of all variance; the other columns hardly influence the loss"
    elif scale > LARGEST_SCALE or 0 < scale < SMALLEST_SCALE:
        seen = f"the root mean square is {scale:.3g} (from {facts['low']:.3g} to {facts['high']:.3g}), not near 1"
    else:
        return None
    return advise(seen, "data.scale=auto")


def blurred_columns(case: Case) -> Observation | None:
    """Columns whose distinct values become equal in float32, even after subtracting an origin; one is enough."""
    if not (names := case.facts.get("blurred", [])):
        return None
    listed = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return Observation(
        f"float32 cannot represent the small differences between the large values of column {listed}",
        "Store the column as float64 or int64 instead of float32, and do not use data.scale=none. If the values form "
        "groups far from each other, split the column into the group and the difference from the group's center",
    )


def far_values(case: Case) -> Observation | None:
    """Values so far from all others of their column that the scale is fitted without them; one is enough."""
    count, text = case.facts.get("clipped", [0, ""])
    if not count:
        return None
    return Observation(
        f"{count:,} {'value is' if count == 1 else 'values are'} far outside the range of the others: {text}",
        "Correct these values, remove their rows, or leave the values missing, and train again",
    )


def missing_activations(case: Case) -> Observation | None:
    """More than two weight matrices that act as one, tested on extreme rows."""
    if not case.facts.get("affine") or case.facts["depth"] <= 2:
        return None
    seen = f"{case.facts['depth']} weight matrices in a row act as one: f(a) + f(b) = f(a + b) + f(0)"
    return advise(seen, "model.activation=silu")


def batch_too_small(case: Case) -> Observation | None:
    """Batch norm over fewer than `SMALLEST_BATCH` rows, in the smallest batch of an epoch."""
    facts = case.facts
    if not facts.get("batch_norm") or facts["smallest_batch"] >= SMALLEST_BATCH:
        return None
    return Observation(
        f"batch norm computes its mean and deviation from {facts['smallest_batch']} rows",
        "--set fit.batch_size=auto (or --set model.batch_norm=false)",
        ("fit.batch_size=auto",),
    )


def corruption_too_strong(case: Case) -> Observation | None:
    """A corruption that removes more than `LOST` of the variance, unless the run still got a loss below `LOST_LOSS`."""
    lost = case.facts.get("lost", 0.0)
    if lost <= LOST or (case.history and case.best < LOST_LOSS):
        return None
    seen = f"the corruption removes {lost:.0%} of the rows' variance"
    return advise(seen, "corruption.kind=gaussian", "corruption.level=auto")


def bottleneck_too_small(case: Case) -> Observation | None:
    """A narrowest layer that is too small for the spectrum of the data.

    The best linear map of that width leaves more than `UNEXPLAINED` of the variance; or more than `NOTICEABLE`, and
    one more dimension would explain two thirds of it. No finding if the run still got a loss below `WELL_DONE`.
    """
    left, narrowest = case.facts.get("spectrum", []), min(case.facts.get("widths", []), default=0)
    if not 0 < narrowest < len(left) or (case.history and case.best < WELL_DONE):
        return None
    unexplained, with_one_more = left[narrowest - 1], left[narrowest]
    if unexplained <= UNEXPLAINED and (unexplained <= NOTICEABLE or with_one_more > unexplained / 3):
        return None
    enough = next((number for number, share in enumerate(left, start=1) if share <= ENOUGH), len(left))
    width = max(enough, narrowest + 1)
    return advise(
        f"through a layer of width {narrowest} the best linear map leaves {unexplained:.0%} of the variance "
        f"unexplained, through a layer of width {width} only {left[width - 1]:.0%}",
        f"model.latent_dim={width}",
    )
