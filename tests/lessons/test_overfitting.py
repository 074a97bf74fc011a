"""The gap closes with rows, opens with epochs, and is not there where the model is too small."""

from itertools import pairwise

from lookalike.lessons.overfitting import EPOCHS, ROWS
from lookalike.lessons.picture import Curves, Panels
from tests.lessons.conftest import Experiment
from tests.lessons.conftest import run as shown_by


def test_on_few_rows_it_knows_those_rows(numbers: Experiment) -> None:
    told = numbers("overfitting")
    assert told["latent 16, 25 rows: test error"] > 10 * told["latent 16, 25 rows: training error"]
    assert told["latent 16, 1,437 rows: test error"] < 1.2 * told["latent 16, 1,437 rows: training error"]


def test_the_gap_closes_with_rows(seed: int) -> None:
    picture = shown_by("overfitting", seed).picture
    assert isinstance(picture, Panels)
    assert isinstance(picture.parts[0], Curves)
    (_, seen), (_, unseen) = picture.parts[0].series.values()
    ratios = [after / before for before, after in zip(seen, unseen, strict=True)]
    assert len(ratios) == len(ROWS)
    assert all(more > fewer for more, fewer in pairwise(ratios))


def test_a_model_too_small_fails_on_both(numbers: Experiment) -> None:
    told = numbers("overfitting")
    seen, unseen = told["latent 1, 1,437 rows: training error"], told["latent 1, 1,437 rows: test error"]
    assert unseen < 1.1 * seen
    assert seen > 3 * told["latent 16, 1,437 rows: training error"]


def test_too_many_epochs(numbers: Experiment) -> None:
    told = numbers("overfitting")
    assert told["latent 4, 50 rows: epoch of the least test error"] < 0.75 * EPOCHS
    assert told[f"test error after {EPOCHS} epochs"] > 1.04 * told["test error then"]
    assert told[f"training error after {EPOCHS} epochs"] < 0.85 * told["training error then"]
