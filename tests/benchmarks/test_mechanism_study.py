"""The halves and the figures of the second study, on verdicts made by hand."""

from benchmarks.mechanism_list import MECHANISMS
from benchmarks.mechanism_study import Run, Verdict, figures, halves
from lookalike.training.doctor.causes import CAUSES


def test_the_halves_are_disjoint_and_complete() -> None:
    tuning, report = halves()["tuning"], halves()["report"]
    assert set(tuning) | set(report) == set(MECHANISMS)
    assert abs(len(tuning) - len(report)) <= 1
    assert len(MECHANISMS) >= 40


def test_every_right_name_is_a_cause() -> None:
    assert {name for names, _ in MECHANISMS.values() for name in names} <= {cause.name for cause in CAUSES}


def test_figures_count_first_findings() -> None:
    name = "latent detached"
    runs = [
        Verdict(Run(name, "table", 0), [["gradient-cut", "certain"]]),
        Verdict(Run(name, "table", 1), [["dead-relus", "likely"], ["gradient-cut", "certain"]]),
        Verdict(Run(name, "table", 2), [["overfitting", "possible"]]),
        Verdict(Run(name, "table", 3), []),
        Verdict(Run("", "table", 0), []),
        Verdict(Run("", "wine", -1), [], 0.2),
        Verdict(Run("", "wine", 5000), [["overfitting", "likely"]], 0.9),  # worse than the shipped settings: left out
        Verdict(Run("", "wine", 5001), [["overfitting", "likely"]], 0.3),
    ]
    told = figures(runs, [name])
    assert (told["found"], told["right"], told["wrong"], told["likely"]) == (0.75, 0.25, 0.25, 0.0)
    assert (told["faulty"], told["healthy"], told["alarms"]) == (4, 3, 1 / 3)
