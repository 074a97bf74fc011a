import pytest
import torch

from lookalike.training.doctor.plain import median, number, numbers


@pytest.mark.parametrize(
    ("value", "expected"), [(1.23456, 1.235), (torch.tensor(2.0), 2.0), (float("nan"), None), (float("inf"), None)]
)
def test_four_digits_or_none(value: object, expected: float | None) -> None:
    assert number(value) == expected


def test_lists_and_medians() -> None:
    assert numbers(torch.tensor([1.0, torch.nan])) == [1.0, None]
    assert median(torch.tensor([3.0, 1.0, 2.0])) == 2.0
    assert median(torch.zeros(0)) is None
