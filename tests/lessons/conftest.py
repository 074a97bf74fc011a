"""Each experiment is run once for all tests. `LESSON_SEEDS=5` asks whether an effect is there for other seeds too."""

import functools
import os
from collections.abc import Callable, Mapping

import pytest
import torch

from lookalike.lessons.catalogue import open_lesson
from lookalike.lessons.shown import Shown

SEEDS = range(int(os.environ.get("LESSON_SEEDS", "1")))
Experiment = Callable[[str], Mapping[str, float]]


@functools.cache
def run(topic: str, seed: int) -> Shown:
    """What an experiment shows; no experiment may disturb the global generator."""
    before = torch.get_rng_state()
    shown = open_lesson(topic).show(seed)
    assert torch.equal(torch.get_rng_state(), before)
    return shown


@pytest.fixture(params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def numbers(seed: int) -> Experiment:
    """Takes a topic, gives the numbers of its experiment."""
    return lambda topic: run(topic, seed).numbers


@pytest.fixture
def shown(seed: int) -> Callable[[str], Shown]:
    """Takes a topic, gives all that its experiment shows."""
    return lambda topic: run(topic, seed)
