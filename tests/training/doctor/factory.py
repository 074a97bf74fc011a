"""Factories of handmade runs with a known diagnosis."""

from collections.abc import Callable
from typing import Any

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation
from lookalike.training.history import Epoch, State

__all__ = ["FACTS", "VITALS", "Rule", "case", "check_fires", "check_quiet", "epoch", "run"]

Rule = Callable[[Case], Observation | None]

FACTS: dict[str, Any] = {
    "rows": 900,
    "validation_rows": 100,
    "columns": 8,
    "bad_rows": 0,
    "loss": "mse",
    "wants": "values",
    "epochs": 30,
    "batch_size": 64,
    "optimizer": "adam",
    "lr": 2e-3,
    "rates_differ": False,
    "clip": 0.0,
    "decay": 0.0,
    "alike": False,
    "duplicates": 0.0,
    "low": -3.0,
    "high": 3.0,
    "target_low": -3.0,
    "target_high": 3.0,
    "scale": 1.0,
    "numbers": 8,
    "widest_column": 0.2,
    "trivial_loss": 2.0,
    "lost": 0.1,
    "spectrum": [0.4, 0.19, 0.1, 0.05, 0.03, 0.02, 0.01, 0.0],
    "depth": 4,
    "weights": 500,
    "widths": [16, 4, 16, 8],
    "activations": ["SiLU"],
    "batch_norm": True,
    "norms": 1,
    "missing": [],
    "smallest_batch": 60,
    "latent_activation": "",
    "gain": 0.58,
    "last": "Linear",
    "answers": [-90.0, 110.0],
    "sums_to_one": False,
    "affine": False,
    "eps": 1e-8,
    "momentum": 0.9,
    "frozen": [],
    "alike_units": [],
    "statistics": [0.1],
    "foreign": 1.0,
    "sketches": [[1, 2, 3, 4], [5, 6, 7, 8]],
    "link": None,
    "output_width": 8,
    "target_width": 8,
    "floor": None,
    "ceiling": None,
    "beyond": 0.0,
    "fixed_norm": False,
}
"""Facts of an autoencoder that should learn; the loss of a constant answer is 2."""

VITALS: dict[str, Any] = {
    "steps": 15,
    "losses": [2.0, 1.0, 0.5],
    "first_loss": 2.0,
    "worst_loss": 2.2,
    "stale": 0,
    "looks": 5,
    "train_mode": False,
    "first_norm": 1.5,
    "first_gradient": [0.1, 0.2, 0.2, 0.3],
    "worst_norm": 2.0,
    "gradient": [0.1, 0.2, 0.2, 0.3],
    "update": [0.01, 0.02, 0.01, 0.01],
    "dead": [0.0, 0.0, 0.0, 0.0],
    "latent": {"dead": 0.0, "rank": 3.2, "deviation": 0.8},
    "eval_mode": 0,
    "moves": 15,
    "lost": 0,
    "edited": False,
    "frozen": [False] * 4,
    "reached": [1.0] * 4,
    "arrived": [1.0] * 4,
    "used": [1.0] * 4,
    "moved": [1.0] * 4,
    "kept": 1.0,
    "turned": 1.0,
    "along": 0.6,
    "along_first": 0.7,
    "rates": [2e-3, 2e-3],
    "still": [0.0] * 4,
    "undone": 0.0,
    "returned": False,
    "pull": [0.9, -0.7, 0.6, 0.05, 0.3, 0.3],
    "silent": [0.0, 0.0],
    "batches": {"between": 0.015, "within": 0.9, "same": False, "rows": 64},
    "nan": None,
    "judged_nan": None,
    "judged": {"rows": 100, "sketch": [5, 6, 7, 8], "foreign": 1.0},
}
"""Vital signs of a healthy epoch."""


def epoch(number: int = 1, train: float | None = 0.2, validation: float | None = 0.2, **vitals: Any) -> Epoch:
    """A healthy epoch, changed by the arguments."""
    return Epoch(number, train, validation, 2e-3, 0.1, VITALS | vitals)


def run(*epochs: Epoch, **facts: Any) -> State:
    """A healthy run, changed by the arguments; without `epochs`, it has 30 equal epochs."""
    history = list(epochs) or [epoch(number) for number in range(1, 31)]
    return State(history, 1, {}, "finished", FACTS | facts)


def case(*epochs: Epoch, **facts: Any) -> Case:
    """The case of such a run, as the rules see it."""
    return Case.of(run(*epochs, **facts))


def check_quiet(rule: Rule) -> None:
    """Check that a rule sees nothing in a healthy run, without facts, and before the first epoch."""
    assert rule(case()) is None
    assert rule(Case({})) is None
    assert rule(Case(case().facts)) is None


def check_fires(rule: Rule, signs: dict[str, Any], facts: dict[str, Any], expected: str) -> None:
    """Check that a rule sees its cause in five epochs with these vital signs that learn nothing, and in the facts."""
    signs = {"train": 1.0, "validation": 1.0} | signs
    seen = rule(case(*(epoch(number, **signs) for number in range(1, 6)), **({"trivial_loss": 1.0} | facts)))
    assert seen is not None
    assert expected in seen.evidence
    assert seen.change
