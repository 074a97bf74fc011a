"""Each experiment runs once for all tests. `LESSON_SEEDS=5` checks that an effect also exists with other seeds."""

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
    """Return the result of an experiment; no experiment may change the global generator."""
    before = torch.get_rng_state()
    shown = open_lesson(topic).show(seed)
    assert torch.equal(torch.get_rng_state(), before)
    return shown


@pytest.fixture(params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def numbers(seed: int) -> Experiment:
    """A function from a topic to the numbers of its experiment."""
    return lambda topic: run(topic, seed).numbers


@pytest.fixture
def shown(seed: int) -> Callable[[str], Shown]:
    """A function from a topic to the whole result of its experiment."""
    return lambda topic: run(topic, seed)
