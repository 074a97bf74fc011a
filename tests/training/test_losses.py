from typing import Any, cast, get_args

import pytest
import torch

from training.config import LossConfig
from training.losses import LOSSES, build_loss


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mse", (1 + 4 + 0 + 0) / 4),
        ("mae", (1 + 2 + 0 + 0) / 4),
        ("huber", (0.5 + 1.5 + 0 + 0) / 4),  # half the square up to 1, then the distance less a half
    ],
)
def test_a_loss_is_the_mean_over_all_values(kind: str, expected: float) -> None:
    output, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 4.0], [3.0, 4.0]])
    assert float(build_loss(LossConfig(kind=cast(Any, kind)))(output, target)) == expected


def test_every_configurable_loss_is_there() -> None:
    assert set(LOSSES) == set(get_args(LossConfig.__annotations__["kind"]))
