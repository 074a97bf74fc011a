import math
from collections.abc import Callable
from typing import Any

import pytest

from lookalike.training.config import load_config
from lookalike.training.doctor import rules_during as rules
from lookalike.training.doctor.case import HOPELESS_LOSS, Case
from lookalike.training.doctor.finding import Observation
from lookalike.training.history import Epoch
from tests.training.doctor.made import case, epoch

Rule = Callable[[Case], Observation | None]
EVERY: list[Rule] = [getattr(rules, name) for name in rules.__all__]
UP, DOWN = 1 + 1e-6, 1 - 1e-6
POOR = 1.1 * max(rules.STILL_GOOD, rules.WELL_DONE, 0.5)
"""A loss that no rule takes for good."""


def one(loss: float | None = POOR, **vitals: Any) -> Epoch:
    """One epoch with this loss, training and validation alike."""
    return epoch(1, loss, loss, **vitals)


def judged(rule: Rule, *epochs: Epoch, **facts: Any) -> Observation | None:
    """Losses are shares of what a constant answer costs."""
    return rule(case(*epochs, **({"trivial_loss": 1.0} | facts)))


def said(rule: Rule, *epochs: Epoch, **facts: Any) -> Observation:
    seen = judged(rule, *epochs, **facts)
    assert seen is not None
    assert seen.change
    load_config(None, list(seen.settings))
    return seen


def gradients(*sizes: float | None, norm: float | None = 1.0, **vitals: Any) -> Epoch:
    return one(first_gradient=list(sizes), first_norm=norm, **vitals)


def layers(first: float, depth: int = rules.DEEP, **vitals: Any) -> Epoch:
    """A first gradient in the first layer, and 1 in all others."""
    return gradients(first, *[1.0] * (depth - 1), **vitals)


def dying(share: float) -> Epoch:
    return one(dead=[share, 1.0, 0.0, 0.0])  # the second layer is the narrowest


def latent(share: float, **vitals: Any) -> Epoch:
    return one(latent={"dead": share, "rank": 1.5, "deviation": 0.1}, **vitals)


def falling(steps: int, middle: float, end: float = 0.5, best: float = POOR) -> Epoch:
    """Ten means in all, of which the sixth is `middle` and the last `end`."""
    return one(best, steps=steps, losses=[2.0] * 5 + [middle] * 4 + [end])


@pytest.mark.parametrize("rule", EVERY)
def test_of_a_run_that_learns_or_has_not_begun_nothing_is_said(rule: Rule) -> None:
    assert rule(case()) is None
    assert rule(Case({})) is None
    assert rule(Case(case().facts)) is None


@pytest.mark.parametrize(
    ("rule", "quiet", "loud", "told"),
    [
        (rules.gradients_not_zeroed, one(stale=0), one(stale=1), "at 1 of 5 looks"),
        (rules.judged_in_train_mode, one(train_mode=False), one(train_mode=True), "in 1 of 1 epochs"),
        (
            rules.exploding_gradients,
            one(first_loss=rules.LOUD * DOWN),
            one(first_loss=rules.LOUD * UP),
            f"{rules.LOUD:.3g} times a constant's, and the gradient's length 1.5",
        ),
        (
            rules.learning_rate_too_high,
            one(update=[0.01, rules.LONG_STEP * DOWN]),
            one(update=[0.01, rules.LONG_STEP * UP]),
            f"0.002 the loss went from 2 to 2.2 times a constant's, and a typical step moved a layer by "
            f"{rules.LONG_STEP:.0%}",
        ),
        (
            rules.learning_rate_too_high,
            one(first_loss=0.9, worst_loss=rules.LEAP * DOWN),
            one(first_loss=0.9, worst_loss=rules.LEAP * UP),
            f"from 0.9 to {rules.LEAP:.3g}",
        ),
        (
            rules.learning_rate_too_high,
            one(first_loss=3.0, worst_loss=3 * rules.LEAP * DOWN),
            one(first_loss=3.0, worst_loss=3 * rules.LEAP * UP),
            f"from 3 to {3 * rules.LEAP:.3g}",
        ),
        (
            rules.learning_rate_too_high,
            one(rules.STILL_GOOD * DOWN, update=[rules.WILD_STEP * DOWN]),
            one(rules.STILL_GOOD * UP, update=[rules.WILD_STEP * DOWN]),
            "30%",
        ),
        (
            rules.learning_rate_too_high,
            one(rules.STILL_GOOD * DOWN, update=[rules.WILD_STEP * DOWN]),
            one(rules.STILL_GOOD * DOWN, update=[rules.WILD_STEP * UP]),
            "30%",
        ),
        (
            rules.learning_rate_too_low,
            one(0.9, update=[1e-9, rules.SHORT_STEP * UP]),
            one(0.9, update=[1e-9, rules.SHORT_STEP * DOWN]),
            f"{rules.SHORT_STEP:.1e} of its length; the loss is still 90%",
        ),
        (rules.learning_rate_too_low, one(0.5 * DOWN, update=[0.0]), one(0.5 * UP, update=[0.0]), "still 50%"),
        (
            rules.vanishing_gradients,
            layers(rules.FADED * UP),
            layers(rules.FADED * DOWN),
            f"through {rules.DEEP} layers of SiLU the gradient falls from 1.0e+00 to {rules.FADED:.1e}",
        ),
        (rules.vanishing_gradients, layers(1e-9, depth=rules.DEEP - 1), layers(1e-9), "1.0e-09"),
        (
            rules.vanishing_gradients,
            gradients(*[1e-4] * rules.DEEP, norm=rules.FAINT * UP),
            gradients(*[1e-4] * rules.DEEP, norm=rules.FAINT * DOWN),
            f"is down to 1.0e-04; in all it has length {rules.FAINT:.1e}",
        ),
        (rules.vanishing_gradients, gradients(*[0.0] * rules.DEEP), layers(0.0), "to 0.0e+00"),
        (rules.vanishing_gradients, layers(0.0, dead=[0.9, 0.0, 0.0, 0.0]), layers(0.0, dead=[0.1] * 4), ""),
        (rules.vanishing_gradients, gradients(None, *[1.0] * rules.DEEP), layers(0.0), ""),  # infinite is not small
        (
            rules.dead_relus,
            dying(rules.DEAD_UNITS * DOWN),
            dying(rules.DEAD_UNITS * UP),
            f"{rules.DEAD_UNITS:.0%} of a layer's units",
        ),
        (
            rules.collapsed_latent,
            latent(rules.DEAD_DIMENSIONS * DOWN),
            latent(rules.DEAD_DIMENSIONS * UP),
            f"{rules.DEAD_DIMENSIONS:.0%} of the latent dimensions give the same for every row; in effect there are",
        ),
        (rules.collapsed_latent, one(latent=None), latent(1.0), "100%"),
        (rules.collapsed_latent, latent(1.0, dead=[1.0] * 4), latent(1.0), ""),  # no fault of the latent layer
        (
            rules.overfitting,
            epoch(1, 0.1, max(0.1 * rules.GAP, 0.1 + rules.WIDE_GAP) * DOWN),
            epoch(1, 0.1, max(0.1 * rules.GAP, 0.1 + rules.WIDE_GAP) * UP),
            "0.10 of a constant's on training rows",
        ),
        (
            rules.overfitting,
            epoch(1, 10.0, 10 * rules.GAP * DOWN),
            epoch(1, 10.0, 10 * rules.GAP * UP),
            f"10.00 of a constant's on training rows and {10 * rules.GAP:.2f} on held-out ones",
        ),
        (
            rules.overfitting,
            epoch(1, 0.0, rules.WIDE_GAP * DOWN),
            epoch(1, 0.0, rules.WIDE_GAP * UP),
            f"{rules.WIDE_GAP:.2f} on held-out ones",
        ),
        (
            rules.too_few_epochs,
            falling(rules.FEW_STEPS, 1.0),
            falling(rules.FEW_STEPS - 1, 1.0),
            f"after {rules.FEW_STEPS - 1} steps the loss is 0.50 of a constant's, and half-way it was 1.00",
        ),
        (
            rules.too_few_epochs,
            falling(rules.VERY_FEW_STEPS, 0.5 * (1 + rules.STILL_FALLING) * DOWN),
            falling(rules.VERY_FEW_STEPS, 0.5 * (1 + rules.STILL_FALLING) * UP),
            f"after {rules.VERY_FEW_STEPS} steps",
        ),
        (
            rules.too_few_epochs,
            falling(rules.VERY_FEW_STEPS, 0.1),
            falling(rules.VERY_FEW_STEPS - 1, 0.1),
            "after 99 steps the loss is 0.50 of a constant's",
        ),
        (
            rules.too_few_epochs,
            falling(9, 1.0, best=rules.WELL_DONE * DOWN),
            falling(9, 1.0, best=rules.WELL_DONE * UP),
            "9 steps",
        ),
        (rules.underfitting, one(rules.LITTLE_LEARNT * DOWN), one(rules.LITTLE_LEARNT * UP), "80%"),
    ],
)
def test_a_rule_is_silent_below_its_threshold_and_speaks_above_it(
    rule: Rule, quiet: Epoch, loud: Epoch, told: str
) -> None:
    assert judged(rule, quiet) is None
    assert told in said(rule, loud).evidence


@pytest.mark.parametrize("kind", [*rules.HEAVY, "rmsprop"])
def test_how_much_decay_is_too_much_depends_on_the_optimizer(kind: str) -> None:
    heavy = rules.HEAVY.get(kind, 1.0)
    rule, bad, good = rules.weight_decay_too_strong, one(rules.STILL_GOOD * UP), one(rules.STILL_GOOD * DOWN)
    assert judged(rule, bad, optimizer=kind, decay=heavy * DOWN) is None
    assert judged(rule, good, optimizer=kind, decay=heavy * UP) is None
    evidence = said(rule, bad, optimizer=kind, decay=heavy * UP).evidence
    assert evidence == f"a decay of {heavy:g} under {kind}, and a best loss of {rules.STILL_GOOD:.0%} of a constant's"
    assert said(rule, one(None), optimizer=kind, decay=heavy).evidence.endswith("and no loss but NaN")


@pytest.mark.parametrize(
    ("kind", "lr", "advice"),
    [
        ("adam", 1.0, rules.GOOD_RATES["adam"]),
        ("sgd", 30.0, rules.GOOD_RATES["sgd"]),
        ("adam", rules.GOOD_RATES["adam"], rules.GOOD_RATES["adam"] / 10),  # it was good elsewhere
        ("rmsprop", 1.0, 1e-3),
    ],
)
def test_a_lower_rate_is_advised(kind: str, lr: float, advice: float) -> None:
    seen = said(rules.learning_rate_too_high, one(update=[9.0]), optimizer=kind, lr=lr)
    assert load_config(None, list(seen.settings)).optimizer.lr == pytest.approx(advice)
    assert f"at a learning rate of {lr:g} the loss" in seen.evidence


@pytest.mark.parametrize(
    ("kind", "lr", "advice"),
    [("adam", 1e-6, rules.GOOD_RATES["adam"]), ("sgd", 1e-6, rules.GOOD_RATES["sgd"]), ("rmsprop", 0.02, 0.2)],
)
def test_a_higher_rate_is_advised(kind: str, lr: float, advice: float) -> None:
    seen = said(rules.learning_rate_too_low, one(update=[0.0]), optimizer=kind, lr=lr)
    assert load_config(None, list(seen.settings)).optimizer.lr == pytest.approx(advice)


def test_large_weights_are_to_be_drawn_anew_and_others_to_be_held_in_check() -> None:
    loud = one(first_loss=2 * rules.LOUD)
    drawn = said(rules.exploding_gradients, loud, gain=2.3)
    assert "make values 2.3 times as large" in drawn.evidence
    assert ("standard initialisation" in drawn.change, drawn.settings) == (True, ())
    held = said(rules.exploding_gradients, loud, gain=rules.LOUD_GAIN)
    assert load_config(None, list(held.settings)).optimizer.clip == 1.0


def test_a_decoder_with_a_rate_of_its_own_gets_the_advised_one() -> None:
    seen = said(rules.learning_rate_too_high, one(update=[9.0]), lr=1.0, rates_differ=True)
    config = load_config(None, ["optimizer.decoder_lr=1.0", *seen.settings])
    assert (config.optimizer.lr, config.optimizer.decoder_lr) == (rules.GOOD_RATES["adam"], "same")
    assert seen.change == "--set optimizer.lr=0.002 --set optimizer.decoder_lr=same"


def test_a_length_that_was_clipped_tells_nothing_of_the_gradient_but_of_the_clip() -> None:
    faint = gradients(*[rules.FAINT / 2] * rules.DEEP, norm=1e-6, update=[0.0])
    assert judged(rules.vanishing_gradients, faint) is not None
    assert judged(rules.vanishing_gradients, faint, clip=1e-6) is None
    seen = said(rules.learning_rate_too_low, faint, clip=1e-6, optimizer="sgd")
    assert load_config(None, list(seen.settings)).optimizer.clip == 1.0
    scale_free = said(rules.learning_rate_too_low, faint, clip=1e-6, optimizer="adam", lr=1e-6)
    assert scale_free.settings == ("optimizer.lr=0.002",)


def test_through_layers_that_are_normalised_no_gradient_vanishes() -> None:
    faint = layers(rules.FADED / 2)
    assert judged(rules.vanishing_gradients, faint, norms=rules.DEEP // 2) is None
    assert judged(rules.vanishing_gradients, faint, norms=rules.DEEP // 2 - 1) is not None


def test_where_no_step_was_seen_none_was_too_short() -> None:
    signs: list[dict[str, Any]] = [{"steps": 9, "update": []}, {"steps": 9}]
    for vitals in signs:
        history = Epoch(1, 0.9, 0.9, 1e-3, 0.1, vitals)
        assert rules.learning_rate_too_low(Case(case().facts, (history,))) is None


def test_a_run_with_epochs_before_it_has_not_had_too_few() -> None:
    history = (falling(50, middle=1.0),)
    assert rules.too_few_epochs(Case(case(epochs=1).facts, history)) is not None
    assert rules.too_few_epochs(Case(case(epochs=2).facts, history)) is None
    assert rules.too_few_epochs(Case(case(epochs=2).facts, history, "finished")) is not None


@pytest.mark.parametrize("before", [POOR, 0.01])
def test_a_run_that_became_hopeless_went_too_fast_however_well_it_had_done(before: float) -> None:
    numbers = said(rules.learning_rate_too_high, one(before), epoch(2, None, None, update=[None]))
    assert "the loss left the numbers, and a typical step moved a layer by 2%" in numbers.evidence
    lost = said(rules.learning_rate_too_high, one(before), *(epoch(n, 3 * HOPELESS_LOSS, 9.0) for n in (2, 3, 4)))
    assert f"the loss came to {3 * HOPELESS_LOSS:.3g} times a constant's" in lost.evidence


def test_what_is_no_number_is_not_told_as_one() -> None:
    gone = one(None, first_loss=None, worst_loss=None, update=[None], losses=[None], first_norm=None)
    assert said(rules.learning_rate_too_high, gone).evidence == "at a learning rate of 0.002 the loss left the numbers"
    assert "length no number" in said(rules.exploding_gradients, gone).evidence
    for rule in (rules.too_few_epochs, rules.underfitting, rules.overfitting, rules.vanishing_gradients):
        assert judged(rule, gone) is None


def test_the_signs_of_the_first_epoch_count_for_rates_and_gradients_and_those_of_the_last_for_units() -> None:
    healthy, ill = one(), one(update=[9.0], first_loss=9 * rules.LOUD, dead=[1.0] * 4)
    assert judged(rules.learning_rate_too_high, healthy, ill) is None
    assert judged(rules.exploding_gradients, healthy, ill) is None
    assert judged(rules.dead_relus, ill, healthy) is None
    assert said(rules.dead_relus, healthy, ill).evidence.startswith("100%")


def test_stale_gradients_and_wrong_modes_are_counted_over_all_epochs() -> None:
    history = one(stale=4, train_mode=True), one(stale=0), one(stale=5, train_mode=True)
    assert "at 9 of 15 looks" in said(rules.gradients_not_zeroed, *history).evidence
    assert "in 2 of 3 epochs" in said(rules.judged_in_train_mode, *history).evidence


def test_an_activation_on_the_latent_layer_is_to_blame_for_dead_dimensions_and_no_setting_takes_it_off() -> None:
    seen = said(rules.collapsed_latent, latent(1.0, dead=[1.0] * 4), latent_activation="ReLU")
    assert (seen.change, seen.settings) == ("Take the ReLU off the latent layer", ())


def test_the_layers_of_a_fading_gradient_are_named_where_they_are_known() -> None:
    fading = layers(1e-9)
    assert (
        "layers of Sigmoid, Tanh the"
        in said(rules.vanishing_gradients, fading, activations=["Sigmoid", "Tanh"]).evidence
    )
    assert "layers of its activations the" in said(rules.vanishing_gradients, fading, activations=[]).evidence


def test_a_loss_that_no_constant_answer_has_is_not_judged_by_it() -> None:
    assert judged(rules.underfitting, one(3.0), trivial_loss=None) is None
    assert math.isinf(case(one(3.0), trivial_loss=None).best)
