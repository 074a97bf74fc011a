import math

import pytest

from lookalike.training.doctor.case import HOPELESS_EPOCHS, HOPELESS_LOSS, Case
from lookalike.training.history import State
from tests.training.doctor.factory import case, epoch, run


def test_losses_are_relative_to_a_constant_answer() -> None:
    seen = case(epoch(1, 3.0, 2.0), epoch(2, 1.0, 0.5), epoch(3, None, None), trivial_loss=2.0)
    assert (seen.train, seen.validation) == ([1.5, 0.5, math.inf], [1.0, 0.25, math.inf])
    assert seen.best == 0.25


def test_the_relative_loss_of_a_perfect_answer_is_zero() -> None:
    seen = case(trivial_loss=0.7, perfect_loss=0.2)
    assert [seen.relative(loss) for loss in (0.7, 0.45, 0.2, 0.1, 1.2, None)] == pytest.approx(
        [1.0, 0.5, 0.0, 0.0, 2.0, math.inf]
    )


def test_training_losses_are_relative_to_a_constant_answer_on_training_rows() -> None:
    seen = case(epoch(1, 3.0, 3.0, losses=[5.0]), trivial_loss=2.0, train_trivial_loss=5.0, train_perfect_loss=1.0)
    assert (seen.train, seen.validation, seen.curve) == ([0.5], [1.5], [1.0])
    assert (seen.relative(3.0), seen.relative(3.0, "train_")) == (1.5, 0.5)


@pytest.mark.parametrize("facts", [{}, {"trivial_loss": None}, {"trivial_loss": 0.0, "perfect_loss": 0.0}])
def test_the_relative_loss_is_infinite_if_a_constant_answer_is_perfect(facts: dict[str, float | None]) -> None:
    assert (Case(facts).relative(0.0), Case(facts).relative(1e-9)) == (0.0, math.inf)


def test_a_run_without_epochs() -> None:
    seen = Case.of(State())
    assert (seen.best, seen.first, seen.last, seen.steps, seen.curve_at(0.5)) == (math.inf, {}, {}, 0, math.inf)
    assert (seen.largest_update, seen.dead_hidden, seen.has_nonfinite_loss, seen.hopeless) == (0.0, 0.0, False, False)


def test_last_is_the_last_epoch_with_a_finite_loss() -> None:
    seen = case(epoch(1, steps=3), epoch(2, steps=4), epoch(3, None, None, steps=5))
    assert (seen.first["steps"], seen.last["steps"], seen.steps) == (3, 4, 12)
    assert case(epoch(1, None, None, steps=3)).last["steps"] == 3


def test_the_largest_update_is_that_of_the_worst_layer_in_the_first_epoch() -> None:
    assert case(epoch(1, update=[0.01, 0.3, 0.2]), epoch(2, update=[0.9])).largest_update == 0.3
    assert case(epoch(1, update=[0.01, None])).largest_update == math.inf
    assert case(epoch(1, update=[])).largest_update == 0.0


def test_dead_units_ignore_the_narrowest_layer() -> None:
    seen = case(epoch(1, dead=[0.9] * 4), epoch(2, dead=[0.1, 1.0, 0.3, 0.2]), widths=[16, 4, 16, 8])
    assert (seen.dead_hidden, seen.dead_at_first) == (0.3, 0.9)
    assert case(epoch(1, dead=[0.4, 0.6]), widths=[8, 8]).dead_hidden == 0.6  # all are the narrowest


def test_the_curve_covers_all_epochs_and_is_averaged_over_tenths() -> None:
    # 20 means from 20 down to 1, relative to a constant answer's loss of 2: a tenth is two means.
    first, second = ([float(20 - 10 * half - part) for part in range(10)] for half in range(2))
    seen = case(epoch(1, losses=first), epoch(2, losses=second), trivial_loss=2.0)
    assert seen.curve[:2] == [10.0, 9.5]
    assert (seen.curve_at(0.0), seen.curve_at(0.5), seen.curve_at(0.9)) == (9.75, 4.75, 0.75)
    assert case(epoch(1, losses=[4.0, None])).curve_at(0.9) == math.inf
    assert case(epoch(1, losses=[4.0])).curve_at(0.9) == 2.0


@pytest.mark.parametrize(
    ("losses", "hopeless"),
    [
        ([0.5] * 9, False),
        ([0.5, None], True),
        ([1.001 * HOPELESS_LOSS] * HOPELESS_EPOCHS, True),
        ([0.5, *([1.001 * HOPELESS_LOSS] * HOPELESS_EPOCHS)], True),
        ([1.001 * HOPELESS_LOSS] * (HOPELESS_EPOCHS - 1), False),
        ([1.001 * HOPELESS_LOSS] * HOPELESS_EPOCHS + [0.999 * HOPELESS_LOSS], False),
        ([9 * HOPELESS_LOSS, 6 * HOPELESS_LOSS, 4.4 * HOPELESS_LOSS], False),  # the loss halves
        ([9 * HOPELESS_LOSS, 6 * HOPELESS_LOSS, 4.6 * HOPELESS_LOSS], True),
    ],
)
def test_hopeless(losses: list[float | None], hopeless: bool) -> None:
    epochs = [epoch(number, loss, loss) for number, loss in enumerate(losses, start=1)]
    assert case(*epochs, trivial_loss=1.0).hopeless is hopeless


def test_a_nonfinite_validation_loss_alone_is_hopeless() -> None:
    seen = Case.of(run(epoch(1, 0.5, None)))
    assert (seen.has_nonfinite_loss, seen.hopeless, seen.train) == (True, True, [0.25])
