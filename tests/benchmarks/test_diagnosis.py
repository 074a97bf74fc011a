"""The judgments of the injection study, on verdicts made by hand."""

import pytest

from benchmarks.diagnosis import Job, Study, Verdict, jobs_of
from benchmarks.faults import DATASETS, FAULTS, SIZES

CELL = ("digits", SIZES[0], 8)


def verdict(
    cause: str, *causes: str, left: float = 0.5, after: tuple[str, ...] | None = None, then: float = 0.1
) -> Verdict:
    """A run that left the share `left` of the variance unexplained, and `then` after the advice was followed."""
    job = Job(cause, *CELL)
    if after is None:
        return Verdict(job, list(causes), left)
    return Verdict(job, list(causes), left, list(after), then)


SHIPPED = verdict("shipped", left=0.1)


@pytest.mark.parametrize(
    ("judged", "healed"),
    [
        (verdict("dead-relus", "dead-relus", after=(), then=0.1), True),
        (verdict("dead-relus", "dead-relus", after=(), then=0.199), True),  # 1.5 times 0.1, and 5 points
        (verdict("dead-relus", "dead-relus", after=(), then=0.201), False),
        (verdict("dead-relus", "dead-relus", after=("dead-relus",), then=0.1), False),
        (verdict("dead-relus", "dead-relus", after=("overfitting",), then=0.1), True),
        (verdict("dead-relus"), False),  # no finding, so no advice to follow
        (verdict("overfitting", "overfitting", left=0.6, after=(), then=0.9), True),  # twenty rows do not allow more
        (verdict("overfitting", "overfitting", left=0.6, after=(), then=0.96), False),
    ],
)
def test_healed_means_without_the_cause_and_about_as_good_as_shipped(judged: Verdict, healed: bool) -> None:
    assert Study([SHIPPED, judged]).healed(judged) is healed


def test_a_bottleneck_counts_if_it_did_harm() -> None:
    harmful, harmless = (verdict("bottleneck-too-small", left=left) for left in (0.16, 0.14))
    assert Study([SHIPPED, harmful, harmless]).faulty == [harmful]


def test_a_drawn_run_is_healthy_if_it_is_about_as_good_as_the_worst_shipped_run() -> None:
    well, badly = (Verdict(Job("", "digits", "", 3), [], left) for left in (0.19, 0.21))
    study = Study([SHIPPED, well, badly])
    assert (study.healthy, study.drawn) == ([SHIPPED, well], 2)


def test_the_halves_share_no_run_and_each_cause_covers_every_set_and_size() -> None:
    tuning, reported = jobs_of("tuning"), jobs_of("report")
    assert not {(job.dataset, job.seed, job.cause) for job in tuning} & {(j.dataset, j.seed, j.cause) for j in reported}
    for cause in FAULTS:
        cells = {(job.dataset, job.size) for job in reported if job.cause == cause}
        assert cells == {(data, size) for data in DATASETS for size in SIZES}
    assert sum(not job.cause for job in reported) >= max(sum(j.cause == cause for j in reported) for cause in FAULTS)
