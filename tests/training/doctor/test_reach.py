from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.training.doctor.reach import reach_of, target_link

ROWS = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))


class Ending(nn.Module):
    """Two layers, and a function after them."""

    def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stack, self.last = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)), last

    def forward(self, rows: Tensor) -> Tensor:
        return self.last(self.stack(rows))


@pytest.mark.parametrize(
    ("last", "floor", "ceiling"),
    [
        (lambda output: output, None, None),
        (functional.leaky_relu, None, None),
        (torch.relu, 0.0, None),
        (functional.softplus, 0.0, None),
        (torch.square, 0.0, None),
        (torch.sigmoid, 0.0, 1.0),
        (lambda output: 0.5 * torch.tanh(output), -0.5, 0.5),
        (lambda output: output.clamp(-0.2, 0.3), -0.2, 0.3),
    ],
)
def test_the_edges_of_an_output(last: Callable[[Tensor], Tensor], floor: float | None, ceiling: float | None) -> None:
    facts = reach_of(Ending(last), ROWS, ROWS)
    assert (facts["floor"], facts["ceiling"]) == (pytest.approx(floor, abs=0.01), pytest.approx(ceiling, abs=0.01))
    assert (facts["beyond"] > 0.1) is (floor is not None)
    assert facts["fixed_norm"] is False
    assert not any(part._forward_hooks for part in Ending(last).modules())


def test_targets_within_the_edges_are_not_beyond() -> None:
    assert reach_of(Ending(torch.sigmoid), ROWS, ROWS.sigmoid())["beyond"] == 0.0


def test_outputs_of_one_length() -> None:
    assert reach_of(Ending(lambda output: functional.normalize(output, dim=1)), ROWS, ROWS)["fixed_norm"] is True


def test_widths_that_differ() -> None:
    assert reach_of(Ending(lambda output: output[:, :1]), ROWS, ROWS) == {"output_width": 1, "target_width": 6}


def test_targets_of_other_rows_and_of_nothing() -> None:
    moved = target_link(ROWS, ROWS.flip(0))
    assert moved is not None
    assert moved["same_rows"] is True
    assert moved["error"] > 1
    own = target_link(ROWS, 2 * ROWS)
    assert own is not None
    assert (own["same_rows"], own["error"] < 0.8) == (False, True)
    assert target_link(ROWS[:10], ROWS[:10]) is None
