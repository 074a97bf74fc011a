"""Rules over the facts alone: what can be said before the first step.

A rule takes a case and returns what it saw and what to change, or None. Thresholds were set
on some seeds of `benchmarks/diagnosis.py`, which reports on others.
"""

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation

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
    """Rows, of the training or the validation ones, that hold a NaN or an infinity: a single one is enough."""
    count = case.facts.get("bad_rows", 0)
    if not count:
        return None
    return Observation(
        f"{count} of {case.facts['rows'] + case.facts['validation_rows']} rows hold NaN or infinity",
        "Drop or mend them: rows = rows[torch.isfinite(rows).all(dim=1)]",
    )


def rows_alike(case: Case) -> Observation | None:
    """Training rows of which none differs from another."""
    if not case.facts.get("alike"):
        return None
    return Observation(
        f"all {case.facts['rows']} training rows are the same",
        "Look at how the rows were made: of what they should tell apart, nothing is in them",
    )


def missing_parameters(case: Case) -> Observation | None:
    """Trainable parameters that are in no group of the optimizer: a single one is enough."""
    missing = case.facts.get("missing", [])
    if not missing:
        return None
    return Observation(
        f"{len(missing)} trainable parameters are in no group of the optimizer: {', '.join(missing[:4])}",
        "Give it all: optimizer = Adam(model.parameters()); freeze on purpose with requires_grad_(False)",
    )


def batch_of_one(case: Case) -> Observation | None:
    """What batch norm cannot compute at all: a batch of fewer than 2 rows."""
    return batch_too_small(case) if case.facts.get("smallest_batch", 2) < 2 else None


def duplicates(case: Case) -> Observation | None:
    """Validation rows that stand among the training rows: more than a share of `DUPLICATES`."""
    share = case.facts.get("duplicates", 0.0)
    if share <= DUPLICATES:
        return None
    return Observation(
        f"{share:.0%} of the validation rows stand among the training rows, bit for bit",
        "Remove duplicates before the split, or keep equal rows on one side",
    )


def double_activation(case: Case) -> Observation | None:
    """For a loss that takes logits: a sigmoid or softmax called last, or answers to rows far out that look so."""
    facts = case.facts
    if facts.get("wants") != "logits" or "answers" not in facts:
        return None
    low, high = facts["answers"]
    alike = _looks_squashed(low, high) == (0.0, 1.0) or (facts["sums_to_one"] and low >= 0)
    if not (alike or facts["last"] in {"Sigmoid", "Softmax"}):
        return None
    name = "softmax" if facts["sums_to_one"] else "sigmoid"
    how = "ends with" if facts["last"] in SQUASHED else "answers like"
    return Observation(
        f"the loss {facts['loss']} takes logits, and the model {how} a {name}: [{low:.3g}, {high:.3g}]",
        "Remove it from the model: --set model.output=linear",
        ("model.output=linear",),
    )


def wrong_output_range(case: Case) -> Observation | None:
    """Targets that lie outside, by more than `SLACK`, of what the last activation can give, or seems to give."""
    facts = case.facts
    if "answers" not in facts or facts["wants"] == "logits":
        return None
    reach = SQUASHED.get(facts["last"]) or _looks_squashed(*facts["answers"])
    low, high = facts["target_low"], facts["target_high"]
    if not reach or (reach[0] - SLACK <= low and high <= reach[1] + SLACK):
        return None
    return Observation(
        f"the model can give [{reach[0]:g}, {reach[1]:g}], its targets lie in [{low:.3g}, {high:.3g}]",
        "--set model.output=linear (or --set data.scale=range)",
        ("model.output=linear",),
    )


def _looks_squashed(low: float, high: float) -> tuple[float, float] | None:
    """Answers to rows far out that come near both ends of a well-known range and never pass them."""
    for least, most in ((0.0, 1.0), (-1.0, 1.0)):
        if least <= low < least + NEAR_END and most - NEAR_END < high <= most:
            return least, most
    return None


def unscaled_inputs(case: Case) -> Observation | None:
    """One of more than 3 columns of numbers has most of all variance, or values are too large or too small.

    Most is over `WIDEST_COLUMN`. The root mean square should lie within `SMALLEST_SCALE` and `LARGEST_SCALE`; where
    all are 0, no scale helps.
    """
    facts = case.facts
    if "scale" not in facts:
        return None
    scale, widest, columns = facts["scale"], facts["widest_column"], facts["numbers"]
    if columns > 3 and widest > WIDEST_COLUMN:
        seen = f"one of {columns} columns has {widest:.0%} of all variance; next to it the others do not count"
    elif scale > LARGEST_SCALE or 0 < scale < SMALLEST_SCALE:
        seen = (
            f"the values' root mean square is {scale:.3g} (from {facts['low']:.3g} to {facts['high']:.3g}), not near 1"
        )
    else:
        return None
    return Observation(seen, "--set data.scale=auto", ("data.scale=auto",))


def blurred_columns(case: Case) -> Observation | None:
    """Columns in which float32 does not hold what tells values apart, even less an origin: a single one is enough."""
    names = case.facts.get("blurred", [])
    if not names:
        return None
    told = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return Observation(
        f"float32 does not tell values of this size apart if they differ by little: column {told}",
        "Store the column as float64 or int64, not as float32, and scale it, not data.scale=none; if its values are in "
        "groups far from each other, split it into the group and the difference from the group's centre",
    )


def far_values(case: Case) -> Observation | None:
    """Values so far from all others of their column that they are not fitted on: a single one is enough."""
    count, text = case.facts.get("clipped", [0, ""])
    if not count:
        return None
    return Observation(
        f"{count:,} {'value is' if count == 1 else 'values are'} far outside the range of the others: {text}",
        "Correct these values, remove their rows, or leave the values missing, and train again",
    )


def missing_activations(case: Case) -> Observation | None:
    """More than two weight matrices that act as one, tried on rows far out."""
    if not case.facts.get("affine") or case.facts["depth"] <= 2:
        return None
    return Observation(
        f"{case.facts['depth']} weight matrices in a row act as one: f(a) + f(b) = f(a + b) + f(0)",
        "--set model.activation=silu",
        ("model.activation=silu",),
    )


def batch_too_small(case: Case) -> Observation | None:
    """Batch norm over fewer than `SMALLEST_BATCH` rows, in the smallest batch of an epoch."""
    facts = case.facts
    if not facts.get("batch_norm") or facts["smallest_batch"] >= SMALLEST_BATCH:
        return None
    return Observation(
        f"batch norm takes its mean and deviation from {facts['smallest_batch']} rows",
        "--set fit.batch_size=auto (or --set model.batch_norm=false)",
        ("fit.batch_size=auto",),
    )


def corruption_too_strong(case: Case) -> Observation | None:
    """A corruption that takes more than `LOST` of the variance, unless the run came below `LOST_LOSS` all the same."""
    lost = case.facts.get("lost", 0.0)
    if lost <= LOST or (case.history and case.best < LOST_LOSS):
        return None
    return Observation(
        f"the corruption takes {lost:.0%} of the rows' variance",
        "--set corruption.kind=gaussian --set corruption.level=auto",
        ("corruption.kind=gaussian", "corruption.level=auto"),
    )


def bottleneck_too_small(case: Case) -> Observation | None:
    """The narrowest layer against the data's own spectrum, and against what was reached.

    It leaves more than `UNEXPLAINED` to the best linear map; or more than `NOTICEABLE`, of which one dimension more
    would take two thirds. A run that came below `WELL_DONE` all the same had enough.
    """
    left, narrowest = case.facts.get("spectrum", []), min(case.facts.get("widths", []), default=0)
    if not 0 < narrowest < len(left) or (case.history and case.best < WELL_DONE):
        return None
    here, next_one = left[narrowest - 1], left[narrowest]
    if here <= UNEXPLAINED and (here <= NOTICEABLE or next_one > here / 3):
        return None
    wanted = next((number for number, share in enumerate(left, start=1) if share <= ENOUGH), len(left))
    wanted = max(wanted, narrowest + 1)
    return Observation(
        f"through a layer of {narrowest} the best linear map leaves {here:.0%} of the variance, "
        f"through one of {wanted} it would leave {left[wanted - 1]:.0%}",
        f"--set model.latent_dim={wanted}",
        (f"model.latent_dim={wanted}",),
    )
