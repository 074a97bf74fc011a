import math
from collections.abc import Callable
from typing import Any

import pytest

from lookalike.training.config import load_config
from lookalike.training.doctor import rules_during as rules
from lookalike.training.doctor.case import HOPELESS_LOSS, Case
from lookalike.training.doctor.finding import Observation
from lookalike.training.history import Epoch
from tests.training.doctor.factory import case, epoch

Rule = Callable[[Case], Observation | None]
EVERY: list[Rule] = [getattr(rules, name) for name in rules.__all__]
UP, DOWN = 1 + 1e-6, 1 - 1e-6
POOR = 1.1 * max(rules.STILL_GOOD, rules.WELL_DONE, 0.5)
"""A loss that no rule considers good."""


def one(loss: float | None = POOR, **vitals: Any) -> Epoch:
    """One epoch with this training and validation loss."""
    return epoch(1, loss, loss, **vitals)


def evaluate(rule: Rule, *epochs: Epoch, **facts: Any) -> Observation | None:
    """Evaluate a rule; losses are relative to that of a constant answer."""
    return rule(case(*epochs, **({"trivial_loss": 1.0} | facts)))


def observation(rule: Rule, *epochs: Epoch, **facts: Any) -> Observation:
    seen = evaluate(rule, *epochs, **facts)
    assert seen is not None
    assert seen.change
    load_config(None, list(seen.settings))
    return seen


def gradients(*sizes: float | None, norm: float | None = 1.0, **vitals: Any) -> Epoch:
    return one(first_gradient=list(sizes), first_norm=norm, **vitals)


def layers(first: float, depth: int = rules.DEEP, **vitals: Any) -> Epoch:
    """A first gradient of `first` in the first layer, and of 1 in all other layers."""
    return gradients(first, *[1.0] * (depth - 1), **vitals)


def dying(share: float) -> Epoch:
    return one(dead=[share, 1.0, 0.0, 0.0])  # the second layer is the narrowest


def latent(share: float, **vitals: Any) -> Epoch:
    return one(latent={"dead": share, "rank": 1.5, "deviation": 0.1}, **vitals)


def falling(steps: int, middle: float, end: float = 0.5, best: float = POOR) -> Epoch:
    """An epoch of ten means: five of 2, four of `middle`, and `end`."""
    return one(best, steps=steps, losses=[2.0] * 5 + [middle] * 4 + [end])


@pytest.mark.parametrize("rule", EVERY)
def test_no_observation_on_a_healthy_run_or_without_epochs(rule: Rule) -> None:
    assert rule(case()) is None
    assert rule(Case({})) is None
    assert rule(Case(case().facts)) is None


@pytest.mark.parametrize(
    ("rule", "quiet", "loud", "expected"),
    [
        (rules.gradients_not_zeroed, one(stale=0), one(stale=1), "in 1 of 5 observed steps"),
        (rules.judged_in_train_mode, one(train_mode=False), one(train_mode=True), "in 1 of 1 epochs"),
        (
            rules.exploding_gradients,
            one(first_loss=rules.LOUD * DOWN),
            one(first_loss=rules.LOUD * UP),
            f"{rules.LOUD:.3g} times a constant answer's, and the gradient norm is 1.5",
        ),
        (
            rules.learning_rate_too_high,
            one(update=[0.01, rules.LONG_STEP * DOWN]),
            one(update=[0.01, rules.LONG_STEP * UP]),
            f"0.002 the loss went from 2 to 2.2 times a constant answer's, and a typical step moved a layer by "
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
            f"{rules.SHORT_STEP:.1e} of its norm; the loss is still 90%",
        ),
        (rules.learning_rate_too_low, one(0.5 * DOWN, update=[0.0]), one(0.5 * UP, update=[0.0]), "still 50%"),
        (
            rules.vanishing_gradients,
            layers(rules.FADED * UP),
            layers(rules.FADED * DOWN),
            f"through {rules.DEEP} layers with SiLU the gradient falls from 1.0e+00 to {rules.FADED:.1e}",
        ),
        (rules.vanishing_gradients, layers(1e-9, depth=rules.DEEP - 1), layers(1e-9), "1.0e-09"),
        (
            rules.vanishing_gradients,
            gradients(*[1e-4] * rules.DEEP, norm=rules.FAINT * UP),
            gradients(*[1e-4] * rules.DEEP, norm=rules.FAINT * DOWN),
            f"is only 1.0e-04; its total norm is {rules.FAINT:.1e}",
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
            f"{rules.DEAD_DIMENSIONS:.0%} of the latent dimensions are the same for every row; the effective number",
        ),
        (rules.collapsed_latent, one(latent=None), latent(1.0), "100%"),
        (rules.collapsed_latent, latent(1.0, dead=[1.0] * 4), latent(1.0), ""),  # not the fault of the latent layer
        (
            rules.overfitting,
            epoch(1, 0.1, max(0.1 * rules.GAP, 0.1 + rules.WIDE_GAP) * DOWN),
            epoch(1, 0.1, max(0.1 * rules.GAP, 0.1 + rules.WIDE_GAP) * UP),
            "0.10 of a constant answer's on training rows",
        ),
        (
            rules.overfitting,
            epoch(1, 10.0, 10 * rules.GAP * DOWN),
            epoch(1, 10.0, 10 * rules.GAP * UP),
            f"10.00 of a constant answer's on training rows and {10 * rules.GAP:.2f} on held-out rows",
        ),
        (
            rules.overfitting,
            epoch(1, 0.0, rules.WIDE_GAP * DOWN),
            epoch(1, 0.0, rules.WIDE_GAP * UP),
            f"{rules.WIDE_GAP:.2f} on held-out rows",
        ),
        (
            rules.too_few_epochs,
            falling(rules.FEW_STEPS, 1.0),
            falling(rules.FEW_STEPS - 1, 1.0),
            f"after {rules.FEW_STEPS - 1} steps the loss is 0.50 of a constant answer's, and halfway it was 1.00",
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
            "after 99 steps the loss is 0.50 of a constant answer's",
        ),
        (
            rules.too_few_epochs,
            falling(9, 1.0, best=rules.WELL_DONE * DOWN),
            falling(9, 1.0, best=rules.WELL_DONE * UP),
            "9 steps",
        ),
        (rules.underfitting, one(rules.LITTLE_LEARNED * DOWN), one(rules.LITTLE_LEARNED * UP), "80%"),
    ],
)
def test_a_rule_fires_only_above_its_threshold(rule: Rule, quiet: Epoch, loud: Epoch, expected: str) -> None:
    assert evaluate(rule, quiet) is None
    assert expected in observation(rule, loud).evidence


@pytest.mark.parametrize("kind", [*rules.HEAVY, "rmsprop"])
def test_the_decay_threshold_depends_on_the_optimizer(kind: str) -> None:
    heavy = rules.HEAVY.get(kind, 1.0)
    rule, bad, good = rules.weight_decay_too_strong, one(rules.STILL_GOOD * UP), one(rules.STILL_GOOD * DOWN)
    assert evaluate(rule, bad, optimizer=kind, decay=heavy * DOWN) is None
    assert evaluate(rule, good, optimizer=kind, decay=heavy * UP) is None
    evidence = observation(rule, bad, optimizer=kind, decay=heavy * UP).evidence
    assert (
        evidence
        == f"a decay of {heavy:g} with {kind}, and a best loss of {rules.STILL_GOOD:.0%} of a constant answer's"
    )
    assert observation(rule, one(None), optimizer=kind, decay=heavy).evidence.endswith("and no finite loss")


@pytest.mark.parametrize(
    ("kind", "lr", "advice"),
    [
        ("adam", 1.0, rules.GOOD_RATES["adam"]),
        ("sgd", 30.0, rules.GOOD_RATES["sgd"]),
        ("adam", rules.GOOD_RATES["adam"], rules.GOOD_RATES["adam"] / 10),  # the rate is good for other data
        ("rmsprop", 1.0, 1e-3),
    ],
)
def test_advises_a_lower_rate(kind: str, lr: float, advice: float) -> None:
    seen = observation(rules.learning_rate_too_high, one(update=[9.0]), optimizer=kind, lr=lr)
    assert load_config(None, list(seen.settings)).optimizer.lr == pytest.approx(advice)
    assert f"at a learning rate of {lr:g} the loss" in seen.evidence


@pytest.mark.parametrize(
    ("kind", "lr", "advice"),
    [("adam", 1e-6, rules.GOOD_RATES["adam"]), ("sgd", 1e-6, rules.GOOD_RATES["sgd"]), ("rmsprop", 0.02, 0.2)],
)
def test_advises_a_higher_rate(kind: str, lr: float, advice: float) -> None:
    seen = observation(rules.learning_rate_too_low, one(update=[0.0]), optimizer=kind, lr=lr)
    assert load_config(None, list(seen.settings)).optimizer.lr == pytest.approx(advice)


def test_advises_a_standard_initialization_for_large_weights_else_clipping() -> None:
    loud = one(first_loss=2 * rules.LOUD)
    drawn = observation(rules.exploding_gradients, loud, gain=2.3)
    assert "make values 2.3 times as large" in drawn.evidence
    assert ("standard initialization" in drawn.change, drawn.settings) == (True, ())
    held = observation(rules.exploding_gradients, loud, gain=rules.LOUD_GAIN)
    assert load_config(None, list(held.settings)).optimizer.clip == 1.0


def test_advises_the_same_rate_for_a_separate_decoder_rate() -> None:
    seen = observation(rules.learning_rate_too_high, one(update=[9.0]), lr=1.0, rates_differ=True)
    config = load_config(None, ["optimizer.decoder_lr=1.0", *seen.settings])
    assert (config.optimizer.lr, config.optimizer.decoder_lr) == (rules.GOOD_RATES["adam"], "same")
    assert seen.change == "--set optimizer.lr=0.002 --set optimizer.decoder_lr=same"


def test_a_clipped_norm_is_evidence_against_the_clip_not_the_gradient() -> None:
    faint = gradients(*[rules.FAINT / 2] * rules.DEEP, norm=1e-6, update=[0.0])
    assert evaluate(rules.vanishing_gradients, faint) is not None
    assert evaluate(rules.vanishing_gradients, faint, clip=1e-6) is None
    seen = observation(rules.learning_rate_too_low, faint, clip=1e-6, optimizer="sgd")
    assert load_config(None, list(seen.settings)).optimizer.clip == 1.0
    scale_free = observation(rules.learning_rate_too_low, faint, clip=1e-6, optimizer="adam", lr=1e-6)
    assert scale_free.settings == ("optimizer.lr=0.002",)


def test_no_vanishing_gradients_if_layers_are_normalized() -> None:
    faint = layers(rules.FADED / 2)
    assert evaluate(rules.vanishing_gradients, faint, norms=rules.DEEP // 2) is None
    assert evaluate(rules.vanishing_gradients, faint, norms=rules.DEEP // 2 - 1) is not None


def test_no_observation_on_rates_without_observed_steps() -> None:
    signs: list[dict[str, Any]] = [{"steps": 9, "update": []}, {"steps": 9}]
    for vitals in signs:
        history = Epoch(1, 0.9, 0.9, 1e-3, 0.1, vitals)
        assert rules.learning_rate_too_low(Case(case().facts, (history,))) is None


def test_no_observation_on_epochs_while_the_run_continues() -> None:
    history = (falling(50, middle=1.0),)
    assert rules.too_few_epochs(Case(case(epochs=1).facts, history)) is not None
    assert rules.too_few_epochs(Case(case(epochs=2).facts, history)) is None
    assert rules.too_few_epochs(Case(case(epochs=2).facts, history, "finished")) is not None


@pytest.mark.parametrize("before", [POOR, 0.01])
def test_a_hopeless_run_has_a_rate_that_is_too_high(before: float) -> None:
    numbers = observation(rules.learning_rate_too_high, one(before), epoch(2, None, None, update=[None]))
    assert "the loss became NaN or infinite, and a typical step moved a layer by 2%" in numbers.evidence
    lost = observation(
        rules.learning_rate_too_high, one(before), *(epoch(n, 3 * HOPELESS_LOSS, 9.0) for n in (2, 3, 4))
    )
    assert f"the loss rose to {3 * HOPELESS_LOSS:.3g} times a constant answer's" in lost.evidence


def test_describes_nonfinite_values_in_words() -> None:
    nonfinite = one(None, first_loss=None, worst_loss=None, update=[None], losses=[None], first_norm=None)
    assert (
        observation(rules.learning_rate_too_high, nonfinite).evidence
        == "at a learning rate of 0.002 the loss became NaN or infinite"
    )
    assert "norm is not finite" in observation(rules.exploding_gradients, nonfinite).evidence
    for rule in (rules.too_few_epochs, rules.underfitting, rules.overfitting, rules.vanishing_gradients):
        assert evaluate(rule, nonfinite) is None


def test_rates_and_gradients_use_the_first_epoch_and_dead_units_the_last() -> None:
    healthy, ill = one(), one(update=[9.0], first_loss=9 * rules.LOUD, dead=[1.0] * 4)
    assert evaluate(rules.learning_rate_too_high, healthy, ill) is None
    assert evaluate(rules.exploding_gradients, healthy, ill) is None
    assert evaluate(rules.dead_relus, ill, healthy) is None
    assert observation(rules.dead_relus, healthy, ill).evidence.startswith("100%")


def test_counts_stale_gradients_and_wrong_modes_over_all_epochs() -> None:
    history = one(stale=4, train_mode=True), one(stale=0), one(stale=5, train_mode=True)
    assert "in 9 of 15 observed steps" in observation(rules.gradients_not_zeroed, *history).evidence
    assert "in 2 of 3 epochs" in observation(rules.judged_in_train_mode, *history).evidence


def test_advises_removing_an_activation_from_the_latent_layer() -> None:
    seen = observation(rules.collapsed_latent, latent(1.0, dead=[1.0] * 4), latent_activation="ReLU")
    assert (seen.change, seen.settings) == ("Remove the ReLU from the latent layer", ())


def test_names_the_activations_of_vanishing_gradients() -> None:
    fading = layers(1e-9)
    assert (
        "layers with Sigmoid, Tanh the"
        in observation(rules.vanishing_gradients, fading, activations=["Sigmoid", "Tanh"]).evidence
    )
    assert "layers the gradient" in observation(rules.vanishing_gradients, fading, activations=[]).evidence


def test_no_observation_if_the_constant_answer_has_no_finite_loss() -> None:
    assert evaluate(rules.underfitting, one(3.0), trivial_loss=None) is None
    assert math.isinf(case(one(3.0), trivial_loss=None).best)
