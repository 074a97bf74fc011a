import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator, Tensor, nn, optim
from torch.nn.functional import mse_loss

from lookalike.training.doctor.facts import _spread, collect_facts, duplicate_share
from lookalike.training.models.losses import LOSSES, Loss
from lookalike.training.plan import Data, FitPlan
from lookalike.training.schedules import SCHEDULES
from tests.factories import blobs

ROWS = torch.from_numpy(blobs(300, 6))


def plan_for(**changes: Any) -> FitPlan:
    return dataclasses.replace(FitPlan(3, 4, patience=9, seed=0, schedule=SCHEDULES["constant"]), **changes)


def facts_of(
    model: nn.Module | None = None,
    train: Tensor = ROWS,
    held: Tensor = ROWS[:20],
    *,
    loss: Loss = LOSSES["mse"],
    plan: FitPlan | None = None,
    targets: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Any]:
    model = model or nn.Linear(train.shape[1], train.shape[1])
    data = Data(train, held, *(targets or ()))
    return collect_facts(model, loss, optim.Adam(model.parameters()), data, plan or plan_for())


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_contains_the_plan_and_the_optimizer() -> None:
    model = nn.Linear(6, 6)
    groups = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias], "lr": 0.5, "initial_lr": 0.25}]
    plan = plan_for(epochs=7, batch_size=32, clip=1.5)
    facts = collect_facts(
        model, LOSSES["mae"], optim.AdamW(groups, lr=0.01, weight_decay=0.0), Data(ROWS, ROWS[:20]), plan
    )
    names = ("rows", "validation_rows", "columns", "loss", "wants", "epochs", "batch_size", "clip")
    assert [facts[name] for name in names] == [300, 20, 6, "mae", "values", 7, 32, 1.5]
    assert (facts["optimizer"], facts["lr"], facts["decay"]) == ("adamw", 0.25, 0.1)


@pytest.mark.parametrize("worst", [math.nan, math.inf, -math.inf])
def test_ends_after_the_count_of_bad_rows(worst: float) -> None:
    train, held = ROWS.clone(), ROWS[:20].clone()
    train[3], held[5, 2] = worst, worst
    facts = facts_of(train=train, held=held)
    assert facts["bad_rows"] == 2
    assert "trivial_loss" not in facts
    targets = ROWS.clone()
    targets[2:4, 1] = worst  # row 3 has a bad input and a bad target, and counts once
    assert facts_of(train=train, held=ROWS[:20], targets=(targets, ROWS[:20]))["bad_rows"] == 2
    assert facts_of()["bad_rows"] == 0


TRAIN, HELD = column(0, 1, 1, 1, 1), column(0, 1)
"""The best constant answer is 0.8; its errors on the held-out rows are 0.8 and 0.2."""


@pytest.mark.parametrize(
    ("loss", "trivial", "perfect"),
    [
        (LOSSES["mse"], (0.8**2 + 0.2**2) / 2, 0.0),
        (LOSSES["mae"], 0.5, 0.0),
        (LOSSES["huber"], (0.8**2 + 0.2**2) / 4, 0.0),
        (LOSSES["bce"], -(math.log(0.2) + math.log(0.8)) / 2, -math.log(0.9999)),
        (LOSSES["bce_logits"], -(math.log(0.2) + math.log(0.8)) / 2, -math.log(0.9999)),
        (Loss("custom", mse_loss, constant=lambda mean: 0.5 * mean), (0.4**2 + 0.6**2) / 2, 0.5**2 / 2),
    ],
)
def test_losses_of_a_constant_and_of_a_perfect_answer(loss: Loss, trivial: float, perfect: float) -> None:
    facts = facts_of(None, TRAIN, HELD, loss=loss)
    assert facts["trivial_loss"] == pytest.approx(trivial, rel=1e-5)
    assert facts["perfect_loss"] == pytest.approx(perfect, abs=1e-6)


def test_losses_of_both_answers_on_training_rows() -> None:
    facts = facts_of(None, TRAIN, HELD)
    assert facts["train_trivial_loss"] == pytest.approx((0.8**2 + 4 * 0.2**2) / 5)
    assert facts["train_perfect_loss"] == 0.0


def test_the_cross_entropy_of_a_perfect_answer_is_not_zero() -> None:
    # The lowest loss for a share of 1/2 is ln 2, for a share of 1/4 it is ln 4 - 3/4 ln 3.
    held = column(0.5, 0.25)
    facts = facts_of(None, TRAIN, held, loss=LOSSES["bce_logits"])
    assert facts["perfect_loss"] == pytest.approx((math.log(2) + math.log(4) - 0.75 * math.log(3)) / 2, rel=1e-5)


def test_the_loss_of_constant_class_shares() -> None:
    classes = torch.tensor([0, 1, 1, 1, 1])
    facts = facts_of(nn.Linear(1, 2), TRAIN, HELD, loss=LOSSES["cross_entropy"], targets=(classes, classes[:2]))
    assert facts["trivial_loss"] == pytest.approx(-(0.2 * math.log(0.2) + 0.8 * math.log(0.8)), rel=1e-5)
    assert facts["wants"] == "logits"


def test_the_constant_answer_uses_explicit_targets() -> None:
    # The targets have mean 10, and the held-out targets differ from it by 10; the rows are within 0 and 1.
    facts = facts_of(None, TRAIN, HELD, targets=(column(0, 20, 10, 10, 10), column(0, 20)))
    assert facts["trivial_loss"] == pytest.approx(100.0)
    assert [facts[name] for name in ("low", "high", "target_low", "target_high")] == [0, 1, 0, 20]
    assert facts["spectrum"] == []  # not an autoencoder


def test_duplicates_are_equal_to_the_last_bit() -> None:
    train = torch.tensor([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]])
    held = torch.tensor([[3.0, 4.0], [1.0, 2.0000002], [2.0, 1.0], [0.0, 0.0]])
    assert duplicate_share(train, held) == 0.25
    assert facts_of(None, train, held)["duplicates"] == 0.25
    assert duplicate_share(train, held[:0]) == 0.0


def test_the_scale_of_columns() -> None:
    # The mean square is (9 + 1 + 25) / 3; the variances are 9, 1 and 0.
    rows = torch.tensor([[3.0, 1.0, 5.0], [-3.0, -1.0, 5.0]] * 4)
    facts = facts_of(None, rows, rows)
    assert facts["scale"] == pytest.approx(math.sqrt(35 / 3))
    assert facts["widest_column"] == pytest.approx(0.9)
    assert (facts["low"], facts["high"]) == (-3.0, 5.0)


def test_the_gain_of_the_layer_with_the_largest_gain() -> None:
    quiet, loud = nn.Linear(4, 6), nn.Linear(6, 4)
    nn.init.constant_(quiet.weight, 0.5)
    nn.init.constant_(loud.weight, -2.0)  # six inputs of size 1 and mixed signs: outputs of about 2 sqrt(6)
    assert facts_of(nn.Sequential(quiet, loud), *(torch.randn(9, 4),) * 2)["gain"] == pytest.approx(2 * math.sqrt(6))
    apart = nn.ConvTranspose2d(8, 2, 4, stride=2)  # each output is a sum of 8 * 16 / 4 values
    nn.init.constant_(apart.weight, 0.25)
    last = nn.Linear(32, 8)
    nn.init.zeros_(last.weight)
    pictures = nn.Sequential(nn.Unflatten(1, (8, 1, 1)), apart, nn.Flatten(), last)
    assert facts_of(pictures, *(torch.randn(9, 8),) * 2)["gain"] == pytest.approx(0.25 * math.sqrt(32))
    widest = nn.Linear(400, 300)
    nn.init.kaiming_normal_(widest.weight, nonlinearity="relu")
    model = nn.Sequential(nn.Linear(4, 400), widest, nn.Linear(300, 4))
    assert facts_of(model, *(torch.randn(9, 4),) * 2)["gain"] == pytest.approx(math.sqrt(2), rel=0.02)


def test_only_numeric_columns_have_a_scale() -> None:
    rows = torch.cat([torch.tensor([[1.0], [-1.0]] * 50), torch.eye(4)[torch.arange(100) % 4] * 0.3], dim=1)
    model = nn.Linear(5, 5)
    all_of = collect_facts(model, LOSSES["mse"], optim.Adam(model.parameters()), Data(rows, rows), plan_for())
    one_of = collect_facts(
        model, LOSSES["mse"], optim.Adam(model.parameters()), Data(rows, rows, numbers=1), plan_for()
    )
    none_of = collect_facts(
        model, LOSSES["mse"], optim.Adam(model.parameters()), Data(rows, rows, numbers=0), plan_for()
    )
    assert (all_of["numbers"], all_of["widest_column"] > 0.9) == (5, True)
    assert (one_of["numbers"], one_of["widest_column"], one_of["scale"]) == (1, 1.0, 1.0)
    assert not {"numbers", "scale", "widest_column"} & none_of.keys()


def test_samples_fewer_rows_if_rows_are_wide() -> None:
    rows = torch.zeros(100, 1).expand(100, 1 << 20)  # as float64 these would be 800 MB
    assert len(_spread(rows, 2048)) == 9
    assert len(_spread(rows[:, :8], 2048)) == 100


def test_rows_are_alike_only_if_all_are_equal() -> None:
    rows = torch.ones(1000, 3)
    assert facts_of(None, rows, rows)["alike"] is True
    rows[-1, -1] = 2.0
    assert facts_of(None, rows, rows)["alike"] is False
    assert facts_of(None, rows[:1], rows)["alike"] is False  # a single row cannot equal another row


def test_accepts_constant_rows() -> None:
    rows = torch.full((8, 3), 7.0)
    facts = facts_of(None, rows, rows)
    assert (facts["trivial_loss"], facts["widest_column"]) == (0.0, 0.0)
    assert json.dumps(facts, allow_nan=False)


def test_the_spectrum_is_the_variance_that_pca_leaves_unexplained() -> None:
    left = 1 - np.cumsum(PCA().fit(ROWS.numpy()).explained_variance_ratio_)
    assert facts_of()["spectrum"] == pytest.approx(left.tolist(), abs=1e-4)


def test_the_spectrum_is_at_most_as_long_as_the_row_count() -> None:
    rows = torch.randn(5, 40, generator=Generator().manual_seed(0))
    spectrum = facts_of(None, rows, rows)["spectrum"]
    assert len(spectrum) == 5
    assert spectrum[3:] == [0.0, 0.0]  # five centered rows span four dimensions


SIGNS = torch.tensor([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]])
"""Two columns with variances of 1 and 4."""


@pytest.mark.parametrize(
    ("noise", "lost"),
    [
        ([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], 0.1),  # half of a fifth
        ([[3**0.5, 3**0.5 * 2], [-(3**0.5), -(3**0.5) * 2], [-(3**0.5), -(3**0.5) * 2], [3**0.5, 3**0.5 * 2]], 0.75),
        ([[0.0, 0.0]] * 4, 0.0),
        ((-SIGNS).tolist(), 1.0),
        ([[5.0, -9.0]] * 4, 0.0),  # a shift loses nothing
    ],
)
def test_the_variance_lost_to_a_corruption(noise: list[list[float]], lost: float) -> None:
    plan = plan_for(corrupt=lambda clean, generator: clean + torch.tensor(noise))
    assert facts_of(None, SIGNS, SIGNS, plan=plan)["lost"] == pytest.approx(lost, abs=1e-6)


def test_lost_is_zero_without_corruption_and_as_expected_for_gaussian_noise() -> None:
    assert facts_of()["lost"] == 0.0
    rows = torch.randn(1000, 4, generator=Generator().manual_seed(1))
    plan = plan_for(corrupt=lambda clean, generator: clean + 2 * torch.randn(clean.shape, generator=generator))
    assert facts_of(None, rows, rows, plan=plan)["lost"] == pytest.approx(4 / 5, abs=0.03)


def stack(*parts: nn.Module) -> nn.Sequential:
    """Linear layers from 6 to 5 and from 5 to 6 columns, with `parts` between them."""
    torch.manual_seed(0)
    first = nn.Linear(6, 5)
    nn.init.constant_(first.bias, 3.0)
    return nn.Sequential(first, *parts, nn.Linear(5, 6))


def norm_that_has_seen_rows() -> nn.Module:
    norm = nn.BatchNorm1d(5)
    norm(4 + 3 * torch.randn(100, 5, generator=Generator().manual_seed(0)))
    return norm


def dead_relu() -> nn.Module:
    first = nn.Linear(6, 5)
    nn.init.constant_(first.bias, -1e6)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(5, 6))


@pytest.mark.parametrize(
    ("model", "affine"),
    [
        (stack(), True),
        (stack(nn.Identity(), nn.Linear(5, 5), nn.Dropout(0.5)), True),
        (stack(norm_that_has_seen_rows()), True),
        (stack(nn.ReLU()), False),
        (stack(nn.LeakyReLU()), False),
        (stack(nn.GELU()), False),
        (stack(nn.SiLU()), False),
        (stack(nn.Tanh()), False),
        (stack(nn.Sigmoid()), False),
        (stack(nn.LayerNorm(5)), False),
        (dead_relu(), False),  # constant, but not for lack of activations
    ],
)
def test_affine(model: nn.Module, affine: bool) -> None:
    assert facts_of(model)["affine"] is affine


class FunctionalSigmoid(nn.Module):
    """A sigmoid called as a function, which no submodule reveals."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.sigmoid(self.inner(rows))


@pytest.mark.parametrize(
    ("model", "last", "edges", "sums_to_one"),
    [
        (stack(nn.ReLU()), "Linear", None, False),
        (stack().append(nn.Sigmoid()), "Sigmoid", [0.0, 1.0], False),
        (stack().append(nn.Tanh()), "Tanh", [-1.0, 1.0], False),
        (stack().append(nn.Softmax(dim=1)), "Softmax", [0.0, 1.0], True),
        (FunctionalSigmoid(), "Linear", [0.0, 1.0], False),
    ],
)
def test_the_output_range_of_a_model(model: nn.Module, last: str, edges: list[float] | None, sums_to_one: bool) -> None:
    facts = facts_of(model)
    assert (facts["last"], facts["sums_to_one"]) == (last, sums_to_one)
    if edges:
        assert facts["answers"] == pytest.approx(edges, abs=1e-3)
    else:
        assert facts["answers"][1] - facts["answers"][0] > 50


class TinyAutoencoder(nn.Module):
    """An encoder to three dimensions that ends with `last`, and a decoder."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), last)
        self.decoder = nn.Sequential(nn.Linear(3, 6))

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.decoder(self.encoder(rows))
        return answer


@pytest.mark.parametrize(("last", "kind"), [(nn.ReLU(), "ReLU"), (nn.Identity(), ""), (nn.BatchNorm1d(3), "")])
def test_the_shape_of_a_model(last: nn.Module, kind: str) -> None:
    facts = facts_of(TinyAutoencoder(last))
    assert facts["latent_activation"] == kind
    assert (facts["depth"], facts["widths"], facts["activations"]) == (3, [4, 3, 6], ["ReLU"])
    assert facts["norms"] == isinstance(last, nn.BatchNorm1d)
    assert facts["batch_norm"] is isinstance(last, nn.BatchNorm1d)
    assert facts["weights"] == (6 * 4 + 4) + (4 * 3 + 3) + (3 * 6 + 6) + (6 if facts["batch_norm"] else 0)


def test_the_width_of_a_convolution_counts_all_values_of_a_row() -> None:
    # A row of 6 values is one channel, which becomes 2 channels of 3 positions: 6 values.
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 2, 2, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 4),
        nn.Linear(4, 6),
    )
    assert facts_of(model)["widths"] == [6, 4, 6]


def test_batch_norm_over_picture_positions_is_not_counted() -> None:
    picture = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(6, 6))
    assert facts_of(picture)["batch_norm"] is False


def test_names_trainable_parameters_that_no_optimizer_moves() -> None:
    model = TinyAutoencoder(nn.Identity())
    model.encoder[0].requires_grad_(False)
    optimizer = optim.SGD(model.decoder.parameters())
    facts = collect_facts(model, LOSSES["mse"], optimizer, Data(ROWS, ROWS[:20]), plan_for())
    assert facts["missing"] == ["encoder.2.weight", "encoder.2.bias"]
    assert (facts["depth"], facts["widths"]) == (3, [3, 6])


@pytest.mark.parametrize(("rows", "size", "least"), [(10, 4, 3), (10, 10, 10), (9, 8, 4), (3, 1, 1), (5, 100, 5)])
def test_the_smallest_batch_is_within_one_row_of_the_others(rows: int, size: int, least: int) -> None:
    assert facts_of(train=ROWS[:rows], plan=plan_for(batch_size=size))["smallest_batch"] == least


class RandomNoise(nn.Module):
    """Draws random numbers in both modes, and may raise an error."""

    def __init__(self, breaks: bool) -> None:
        super().__init__()
        self.inner, self.breaks = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 6)), breaks

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.inner(rows + torch.randn_like(rows))
        if self.breaks:
            raise RuntimeError("broken")
        return answer


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_leaves_the_model_and_the_random_state_unchanged(training: bool, breaks: bool) -> None:
    model = RandomNoise(breaks).train(training)
    model.inner[0].train(not training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.random.get_rng_state()
    if breaks:
        with pytest.raises(RuntimeError, match="broken"):
            facts_of(model)
    else:
        facts_of(model, plan=plan_for(corrupt=lambda clean, generator: clean + torch.randn_like(clean)))
    assert [part.training for part in model.modules()] == [training, training, not training, training, training]
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weights.grad is None for weights in model.parameters())
    assert not any(part._forward_hooks for part in model.modules())


class Overflowing(nn.Module):
    """Its outputs for extreme rows overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.exp(10 * self.inner(rows).abs())


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (None, ROWS),
        (None, ROWS * 1e30),
        (None, ROWS * 1e-30),
        (Overflowing(), ROWS),
        (None, ROWS[:1]),
        (None, ROWS[:2]),
    ],
)
def test_facts_are_plain_json_for_any_rows(model: nn.Module | None, rows: Tensor) -> None:
    plan = plan_for(corrupt=lambda clean, generator: clean + torch.randn(clean.shape, generator=generator))
    facts = facts_of(model, rows, rows, plan=plan)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["scale"] == pytest.approx(float(rows.double().square().mean().sqrt()))
