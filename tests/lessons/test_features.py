"""Features and moves help with moved pictures; the descriptor repairs what moves cost in place."""

import torch

from lookalike.lessons.features import moved
from tests.lessons.conftest import Experiment

PIXELS, MOVED, DESCRIBED = "pixels", "pixels, moved", "pixels and gradients, moved"


def test_moving_the_training_rows_helps_with_moved_queries_and_costs_precision_in_place(numbers: Experiment) -> None:
    measured = numbers("features")
    clean, away = (
        {name: measured[f"precision@10 on {kind} rows, {name}"] for name in (PIXELS, MOVED)}
        for kind in ("clean", "moved")
    )
    assert away[MOVED] > away[PIXELS] + 0.25
    assert clean[MOVED] < clean[PIXELS]


def test_gradients_beside_the_pixels_are_best_on_moved_queries(numbers: Experiment) -> None:
    measured = numbers("features")
    best = measured[f"precision@10 on moved rows, {DESCRIBED}"]
    for other in ("raw rows", "gradients", PIXELS, MOVED):
        assert best > measured[f"precision@10 on moved rows, {other}"] + 0.05
    assert (
        measured[f"precision@10 on clean rows, {DESCRIBED}"] > measured["precision@10 on clean rows, raw rows"] - 0.02
    )


def test_raw_rows_and_untrained_gradients_lose_neighbors_if_queries_move(numbers: Experiment) -> None:
    measured = numbers("features")
    for name, lost in (("raw rows", 0.4), ("gradients", 0.2)):
        clean, away = (measured[f"precision@10 on {kind} rows, {name}"] for kind in ("clean", "moved"))
        assert away < clean - lost


def test_a_move_is_by_at_most_a_pixel_and_loses_nothing_inside() -> None:
    rows = torch.zeros(300, 8, 8)
    rows[:, 3, 4] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        places = moved(rows.flatten(1)).reshape(-1, 8, 8).nonzero()
    assert len(places) == 300
    assert {tuple(place.tolist()) for place in places[:, 1:]} == {(y, x) for y in (2, 3, 4) for x in (3, 4, 5)}
