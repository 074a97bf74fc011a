"""The output's gradient shows where a loss leads; the rows of the steps show how they were drawn."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from lookalike.training.doctor.portrait import foreign, sketch_of
from lookalike.training.doctor.watch import Watch

MIXING = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(320, 2, generator=torch.Generator().manual_seed(0)) @ MIXING


def vitals_of(
    target: Callable[[Tensor], Tensor] = lambda rows: rows,
    *,
    sign: float = 1.0,
    columns: int = 8,
    rows: Tensor = ROWS,
    judged: Tensor | None = None,
) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 8))
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with Watch(model, optimizer) as watch:
        for batch in torch.split(rows, 32):
            optimizer.zero_grad()
            loss = sign * (model(batch) - target(batch))[:, :columns].square().mean()
            loss.backward()
            optimizer.step()
            watch.step(loss)
        with torch.no_grad():
            model(ROWS[:100] if judged is None else judged)
        return watch.epoch()


def test_a_loss_leads_to_the_own_row() -> None:
    own, toward, alike, other, *_ = vitals_of()["pull"]
    assert (own, toward) == (pytest.approx(1.0, abs=0.01), pytest.approx(-1.0, abs=0.01))
    assert alike > 0.5
    assert abs(other) < 0.5


def test_a_negated_loss_leads_away() -> None:
    own, toward, *_ = vitals_of(sign=-1.0)["pull"]
    assert (own, toward) == (pytest.approx(-1.0, abs=0.01), pytest.approx(1.0, abs=0.01))


def test_targets_of_other_rows_have_the_rows_correlations_and_noise_has_none() -> None:
    own, _, alike, other, *_ = vitals_of(lambda rows: rows.roll(1, 0))["pull"]
    assert abs(own) < 0.15
    assert alike > 0.5
    assert other == pytest.approx(1.0, abs=0.01)
    own, _, alike, *_ = vitals_of(torch.randn_like)["pull"]
    assert abs(own) < 0.15
    assert alike < 0.25


def test_the_share_of_outputs_that_a_loss_ignores() -> None:
    assert vitals_of()["silent"] == [0.0, 0.0]
    assert vitals_of(columns=2)["silent"] == [0.75, 0.0]


def test_sorted_rows_and_equal_batches() -> None:
    shuffled = vitals_of()["batches"]
    ordered = vitals_of(rows=ROWS[ROWS[:, 0].argsort()])["batches"]
    assert 32 * shuffled["between"] < 3 < 8 < 32 * ordered["between"]
    assert (shuffled["same"], shuffled["rows"]) == (False, 32)
    assert vitals_of(rows=ROWS[:32].repeat(10, 1))["batches"]["same"] is True
    assert vitals_of(rows=ROWS[:1].repeat(320, 1))["batches"]["within"] < 1e-4


@pytest.mark.parametrize(("broken", "output"), [("rows", False), ("target", True)])
def test_where_a_nan_came_first(broken: str, output: bool) -> None:
    rows = ROWS.clone()
    if broken == "rows":
        rows[40, 0] = math.nan
    seen: list[int] = []

    def target(batch: Tensor) -> Tensor:
        seen.append(1)
        return batch * (math.nan if broken == "target" and len(seen) == 2 else 1.0)

    nan = vitals_of(target, rows=rows)["nan"]
    assert (nan["step"], nan["rows"], nan["output"]) == (1, broken != "rows", output)
    assert vitals_of()["nan"] is None


def test_the_sketch_recognizes_a_set_of_rows_in_any_order() -> None:
    assert vitals_of()["judged"]["sketch"] == sketch_of(ROWS[:100].flip(0))
    assert vitals_of()["judged"]["sketch"] != sketch_of(ROWS)


def test_foreign_rows_do_not_follow_the_main_directions() -> None:
    rows, noise = ROWS[:200].double(), torch.randn(100, 8, generator=torch.Generator().manual_seed(2)).double()
    alike, strange = foreign(rows + 0.1 * torch.randn_like(rows), ROWS[200:].double()), foreign(rows, noise)
    assert alike is not None
    assert strange is not None
    assert alike < 1.6 < 5 < strange
    assert foreign(rows[:20], noise) is None
