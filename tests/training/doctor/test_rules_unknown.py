from lookalike.training.doctor.case import Case
from lookalike.training.doctor.rules_unknown import unrecognised
from tests.training.doctor.factory import case, epoch


def test_nothing_is_unusual_in_a_healthy_run_or_without_epochs() -> None:
    assert unrecognised(case()) is None
    assert unrecognised(Case({})) is None


def test_names_the_unusual_signs() -> None:
    poor = [epoch(number, 1.8, 1.8, along=-0.2, update=[1e-6]) for number in range(1, 6)]
    seen = unrecognised(case(*poor))
    assert seen is not None
    for sign in ("the best loss is 0.90", "cosine -0.20", "by 1.0e-06"):
        assert sign in seen.evidence
    rising = unrecognised(case(*(epoch(number, 0.2 * number, 0.2 * number) for number in range(1, 6))))
    assert rising is not None
    assert "rose from 0.10 to 0.50" in rising.evidence
    apart = unrecognised(case(epoch(1, 0.2, 2.0)))
    assert apart is not None
    assert "the validation loss is 1.00" in apart.evidence
