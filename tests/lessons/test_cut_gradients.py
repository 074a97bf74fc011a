"""A cut path leaves two of four matrices where they are; each way to cut it is visible at another place."""

import pytest

from lookalike.lessons.cut_gradients import FAULTS
from tests.lessons.conftest import Experiment

EXPECTED = {
    "healthy": (4, 4, 4),
    "detached": (2, 2, 2),
    "frozen": (2, 2, 2),
    "zeroed before the step": (4, 2, 2),
    "missing from the optimizer": (4, 4, 2),
}
"""For each fault, how many matrices a gradient reaches, how many the optimizer could read one for, how many move."""


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_cuts_the_path_at_its_place(fault: str, numbers: Experiment) -> None:
    measured = numbers("cut-gradients")
    parts = ("that a gradient reaches", "that the optimizer reads one for", "that move")
    assert tuple(measured[f"matrices {part}, {fault}"] for part in parts) == EXPECTED[fault]
