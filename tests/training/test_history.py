import dataclasses
import json

import pytest

from lookalike.training.history import Epoch, State


def test_an_epoch_survives_a_round_trip_through_json() -> None:
    epoch = Epoch(3, None, 0.25, 1e-3, 0.5, {"losses": [0.5, None], "latent": None})
    assert Epoch(**json.loads(json.dumps(dataclasses.asdict(epoch), allow_nan=False))) == epoch


def test_an_epoch_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Epoch(1, 1.0, 1.0, 0.1, 0.0).train_loss = 0.0  # type: ignore[misc]


def test_runs_do_not_share_a_history() -> None:
    one, other = State(), State()
    one.history.append(Epoch(1, 1.0, 1.0, 0.1, 0.0))
    one.facts["rows"] = 5
    assert (other.history, other.facts, other.best_epoch, other.stopped) == ([], {}, 0, "")
