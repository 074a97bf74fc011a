"""The gap closes with more rows, opens with more epochs, and does not exist if the model is too small."""

from itertools import pairwise

from lookalike.lessons.overfitting import EPOCHS, ROWS
from lookalike.lessons.picture import Curves, Panels
from tests.lessons.conftest import Experiment
from tests.lessons.conftest import run as shown_by


def test_few_rows_are_learned_by_heart(numbers: Experiment) -> None:
    measured = numbers("overfitting")
    assert measured["latent 16, 25 rows: test error"] > 10 * measured["latent 16, 25 rows: training error"]
    assert measured["latent 16, 1,437 rows: test error"] < 1.2 * measured["latent 16, 1,437 rows: training error"]


def test_the_gap_closes_with_rows(seed: int) -> None:
    picture = shown_by("overfitting", seed).picture
    assert isinstance(picture, Panels)
    assert isinstance(picture.parts[0], Curves)
    (_, seen), (_, unseen) = picture.parts[0].series.values()
    ratios = [after / before for before, after in zip(seen, unseen, strict=True)]
    assert len(ratios) == len(ROWS)
    assert all(more > fewer for more, fewer in pairwise(ratios))


def test_a_model_that_is_too_small_has_high_errors_on_both(numbers: Experiment) -> None:
    measured = numbers("overfitting")
    seen, unseen = measured["latent 1, 1,437 rows: training error"], measured["latent 1, 1,437 rows: test error"]
    assert unseen < 1.1 * seen
    assert seen > 3 * measured["latent 16, 1,437 rows: training error"]


def test_too_many_epochs_raise_the_test_error(numbers: Experiment) -> None:
    measured = numbers("overfitting")
    assert measured["latent 4, 50 rows: epoch of the least test error"] < 0.75 * EPOCHS
    assert measured[f"test error after {EPOCHS} epochs"] > 1.04 * measured["test error at that epoch"]
    assert measured[f"training error after {EPOCHS} epochs"] < 0.85 * measured["training error at that epoch"]
