import copy
import dataclasses
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim

from lookalike.lessons.catalogue import topics
from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.config import load_config
from lookalike.training.corruption import build_corruption
from lookalike.training.doctor.case import Case
from lookalike.training.doctor.causes import CAUSES, diagnose, refuse
from lookalike.training.doctor.facts import collect_facts
from lookalike.training.doctor.watch import Watch
from lookalike.training.errors import TrainingError
from lookalike.training.fit.loop import fit
from lookalike.training.history import Epoch, State
from lookalike.training.models.autoencoder import Autoencoder, latent_dim_for
from lookalike.training.models.losses import LOSSES
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.plan import Data, FitPlan, Hooks
from lookalike.training.schedules import build_schedule
from tests.training.doctor.factory import case, epoch, run

DIGITS = load_digits().data.astype("float32") / 16
RAW = torch.from_numpy(DIGITS[:600])
"""(600, 64); the last 100 rows are held out."""

REQUIRED = {
    "bad-rows",
    "batch-too-small",
    "bottleneck-too-small",
    "collapsed-latent",
    "corruption-too-strong",
    "dead-relus",
    "double-activation",
    "duplicates-across-split",
    "exploding-gradients",
    "gradients-not-zeroed",
    "judged-in-train-mode",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "missing-activations",
    "overfitting",
    "parameters-missing",
    "resolution-lost",
    "too-few-epochs",
    "underfitting",
    "unscaled-inputs",
    "vanishing-gradients",
    "wrong-output-range",
}
"""Causes that the doctor must know."""


def causes(state: State) -> list[str]:
    return [finding.cause for finding in diagnose(state)]


def test_every_required_cause_has_a_rule() -> None:
    assert {cause.name for cause in CAUSES} >= REQUIRED


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.rule.__name__)
def test_a_cause_has_a_lesson_and_an_explanation(cause: Any) -> None:
    assert cause.topic in topics()
    assert cause.sure in {"certain", "likely", "possible"}
    assert cause.why.endswith(".")
    assert cause.sure == "certain" or not cause.fatal


def test_a_finding_combines_its_cause_and_the_observation() -> None:
    [finding] = diagnose(run(lost=0.99, trivial_loss=0.2))
    cause = next(cause for cause in CAUSES if cause.name == "corruption-too-strong")
    seen = cause.rule(case(lost=0.99, trivial_loss=0.2))
    assert seen is not None
    assert (finding.cause, finding.why, finding.sure, finding.topic) == (cause.name, cause.why, cause.sure, cause.topic)
    assert (finding.seen, finding.change, finding.settings) == (seen.evidence, seen.change, seen.settings)


def test_no_finding_for_a_healthy_run_or_a_run_without_epochs() -> None:
    assert causes(run()) == []
    assert causes(State()) == []


@pytest.mark.parametrize(
    ("facts", "signs", "expected"),
    [
        ({"bad_rows": 1, "missing": ["a"]}, {}, ["bad-rows", "parameters-missing"]),
        ({"smallest_batch": 1}, {"stale": 3}, ["batch-too-small", "gradients-not-zeroed", "batch-too-small"]),
        ({"scale": 90.0, "affine": True}, {}, ["unscaled-inputs", "missing-activations"]),
        ({"duplicates": 0.5}, {"stale": 3}, ["gradients-not-zeroed", "duplicates-across-split"]),
        (
            {"wants": "logits", "last": "Sigmoid"},
            {"train_mode": True},
            ["judged-in-train-mode", "double-activation"],
        ),
        ({"decay": 9.0, "trivial_loss": 0.2}, {"update": [9.0]}, ["weight-decay-too-strong", "learning-rate-too-high"]),
        ({"trivial_loss": 0.1}, {"update": [9.0]}, ["learning-rate-too-high"]),  # hides underfitting
        ({"trivial_loss": 0.1}, {}, ["unrecognised"]),
    ],
)
def test_findings_are_ordered_from_the_most_fundamental_cause(
    facts: dict[str, Any], signs: dict[str, Any], expected: list[str]
) -> None:
    history = [epoch(number, **signs) for number in range(1, 31)]
    assert causes(run(*history, **facts)) == expected


LOST = {"trivial_loss": 0.1, "spectrum": [0.9, 0.8, 0.7, 0.6, 0.1, 0.0], "decay": 9.0}
"""Losses as of a constant answer, a narrow layer and a strong decay."""


@pytest.mark.parametrize(("count", "change"), [(1, "Continue the run with --resume"), (2, "--set fit.epochs=auto")])
def test_after_two_epochs_it_is_too_early_to_tell(count: int, change: str) -> None:
    facts = {**LOST, "epochs": 30 if count == 1 else 2, "duplicates": 0.5}
    history = [epoch(number, update=[9.0]) for number in range(1, 4)]
    *others, finding = diagnose(run(*history[:count], **facts))
    assert [one.cause for one in others] == ["duplicates-across-split"]  # a fact, certain before the first step
    assert (finding.cause, finding.change) == ("too-early", change)
    assert f"after {count} epoch" in finding.seen
    assert f"{count * 15} steps, the loss is 2.00 of a constant answer's" in finding.seen
    after_three = causes(run(*history, **facts))
    assert "too-early" not in after_three
    assert {"weight-decay-too-strong", "learning-rate-too-high", "bottleneck-too-small"} <= set(after_three)
    assert causes(run(*(epoch(number) for number in range(1, count + 1)))) == []  # losses are low: nothing to tell


@pytest.mark.parametrize(
    ("losses", "hopeless"), [([0.2, 0.1], False), ([0.2, None], True), ([900.0, 800.0, 700.0], True)]
)
def test_a_hopeless_run_always_has_a_finding(losses: list[float | None], hopeless: bool) -> None:
    state = run(*(epoch(number, loss, loss) for number, loss in enumerate(losses, start=1)), trivial_loss=1.0)
    assert Case.of(state).hopeless is hopeless
    assert causes(state)[:1] == (["learning-rate-too-high"] if hopeless else [])


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"bad_rows": 2}, "bad-rows"),
        ({"missing": ["weight"]}, "parameters-missing"),
        ({"smallest_batch": 1}, "batch-too-small"),
        ({"wants": "logits", "last": "Softmax"}, "double-activation"),
    ],
)
def test_refuses_a_fatal_cause_with_evidence_and_change(facts: dict[str, Any], cause: str) -> None:
    state = State(facts=run(**facts).facts)
    with pytest.raises(TrainingError) as caught:
        refuse(state)
    finding = diagnose(state)[0]
    assert (caught.value.field, caught.value.found) == (cause, finding.seen)
    assert caught.value.remedy == f"{finding.why} {finding.change}"


@pytest.mark.parametrize("facts", [{}, {"affine": True}, {"scale": 90.0}, {"lost": 0.99}, {"duplicates": 1.0}])
def test_does_not_refuse_a_run_that_may_learn(facts: dict[str, Any]) -> None:
    refuse(State(facts=run(**facts).facts))


def plan_for(**changes: Any) -> FitPlan:
    return dataclasses.replace(FitPlan(1, 8, patience=99, seed=0, schedule=lambda done, losses: 1.0), **changes)


ROWS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
SHARES = ROWS.sigmoid()


def bad_rows() -> Data:
    rows = ROWS.clone()
    rows[7, 1] = torch.nan
    return Data(rows, ROWS[:5])


@pytest.mark.parametrize(
    ("cause", "last", "data", "loss", "batch_size"),
    [
        ("bad-rows", nn.Identity(), bad_rows(), "mse", 8),
        ("parameters-missing", nn.Linear(3, 3), Data(ROWS, ROWS[:5]), "mse", 8),
        ("double-activation", nn.Sigmoid(), Data(SHARES, SHARES[:5]), "bce_logits", 8),
        ("double-activation", nn.Softmax(dim=1), Data(SHARES, SHARES[:5]), "bce_logits", 8),
        ("batch-too-small", nn.BatchNorm1d(3), Data(ROWS, ROWS[:5]), "mse", 1),
    ],
)
def test_takes_no_step_if_a_cause_is_fatal(cause: str, last: nn.Module, data: Data, loss: str, batch_size: int) -> None:
    first = nn.Linear(3, 3)
    model, weights = nn.Sequential(first, last), list(first.parameters())
    weights += [] if isinstance(last, nn.Linear) else list(last.parameters())
    before, state, plan = copy.deepcopy(model.state_dict()), State(), plan_for(batch_size=batch_size)
    with pytest.raises(TrainingError) as caught:
        fit(model, LOSSES[loss], optim.SGD(weights, lr=0.1), data, plan=plan, hooks=Hooks(), state=state)
    assert caught.value.field == cause
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert (state.history, causes(state)[0]) == ([], cause)


SMALL = (
    *("model.hidden=[32]", "model.latent_dim=12", "loss.kind=mse", "optimizer.lr=0.002", "corruption.kind=gaussian"),
    *("corruption.level=0.2", "data.scale=center", "fit.epochs=25", "fit.batch_size=25"),
)


def build_run(*lines: str) -> tuple[Autoencoder, optim.Optimizer, Preprocessor, FitPlan, str]:
    """A small autoencoder of digits with the settings `lines`."""
    config = load_config(None, [*SMALL, *lines])
    torch.manual_seed(0)
    model = Autoencoder((64,), latent_dim_for(64, config.model), config.model)
    scaling = fit_preprocessor(DIGITS[:500], "center")
    plan = plan_for(
        epochs=config.fit.epochs,
        batch_size=config.fit.batch_size,
        schedule=build_schedule(config.optimizer),
        corrupt=build_corruption(config.corruption, scaling, (64,)),
    )
    return model, build_optimizer(config.optimizer, model), scaling, plan, config.loss.kind


def fitted(*lines: str, times: float = 1.0) -> State:
    """Train on rows scaled by `times`."""
    model, optimizer, scaling, plan, loss = build_run(*lines)
    rows = times * scaling.apply(RAW)
    data, state = Data(rows[:500], rows[500:]), State()
    return fit(model, LOSSES[loss], optimizer, data, plan=plan, hooks=Hooks(), state=state)


def test_no_finding_for_a_real_run_that_learns() -> None:
    assert diagnose(fitted()) == []


PLAIN = "model.batch_norm=false"


@pytest.mark.parametrize(
    ("cause", "lines"),
    [
        ("learning-rate-too-high", ["optimizer.kind=sgd", "optimizer.lr=100", PLAIN, "fit.epochs=3"]),
        ("learning-rate-too-low", ["optimizer.lr=1e-7", "fit.epochs=3"]),
        ("missing-activations", ["model.activation=linear", "fit.epochs=1"]),
        ("vanishing-gradients", ["model.activation=sigmoid", "model.hidden=[64,64,64,64,64]", PLAIN, "fit.epochs=1"]),
        ("batch-too-small", ["fit.batch_size=4", "fit.epochs=1"]),
        ("corruption-too-strong", ["corruption.kind=masking", "corruption.level=0.97", "fit.epochs=1"]),
        ("too-few-epochs", ["fit.epochs=3"]),
        ("too-early", ["fit.epochs=2"]),
    ],
)
def test_finds_the_fault_of_a_real_run(cause: str, lines: list[str]) -> None:
    assert causes(fitted(*lines))[0] == cause


def test_finds_unscaled_rows_in_a_real_run() -> None:
    assert causes(fitted("fit.epochs=1", times=300.0))[0] == "unscaled-inputs"


def custom_loop(*, zeroed: bool = True, eval_mode: bool = True) -> State:
    """A user's training loop, observed by a Watch."""
    model, optimizer, scaling, plan, kind = build_run()
    rows = scaling.apply(RAW)
    data = Data(rows[:500], rows[500:])
    loss = LOSSES[kind]
    state = State(facts=collect_facts(model, loss, optimizer, data, plan))
    with Watch(model, optimizer) as watch:
        for number in (1, 2):
            model.train()
            for batch in data.train.reshape(20, 25, 64):  # 20 batches of 25 rows
                if zeroed:
                    optimizer.zero_grad()
                value: Tensor = loss(model(batch), batch)
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                watch.step(value)
            model.train(not eval_mode)
            with torch.no_grad():
                held = float(loss(model(data.validation), data.validation))
            state.history.append(Epoch(number, value.item(), held, 2e-3, 0.0, watch.epoch()))
    state.stopped = "finished"
    return state


def test_finds_the_faults_of_a_custom_loop() -> None:
    assert causes(custom_loop(zeroed=False))[0] == "gradients-not-zeroed"
    assert causes(custom_loop(eval_mode=False))[0] == "judged-in-train-mode"
    assert causes(custom_loop()) == ["too-early"]
