import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn, optim

from lookalike.training.errors import ArtifactError, DataError, TrainingError
from lookalike.training.fit.auto_fix import auto_fix, read_run
from lookalike.training.fit.checkpoint import latest_checkpoint, save_checkpoint
from lookalike.training.fit.job import train
from lookalike.training.fit.split import split_rows
from lookalike.training.history import State
from lookalike.training.rows import open_rows
from tests.factories import blobs, quick
from tests.training.doctor.factory import run as healthy_run
from tests.training.helpers import flip_bit

ROWS: dict[str, Any] = {"name": "these", "rows": 3, "sha256": "0" * 64}


def saved_run(run: Path, state: State, settings: dict[str, Any] | None = None) -> Path:
    """Save the checkpoint of a run of a one-weight model."""
    model = nn.Linear(1, 1)
    save_checkpoint(run, state, model, optim.SGD(model.parameters()), {"config": {}, "data": ROWS, **(settings or {})})
    return run


def settings_of(run: Path) -> dict[str, Any]:
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    settings: dict[str, Any] = checkpoint.header["settings"]
    return settings


@pytest.fixture(scope="module")
def linear_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a model without activations, with its rows in `rows.npy` next to it."""
    folder = tmp_path_factory.mktemp("linear")
    np.save(folder / "rows.npy", blobs())
    train(open_rows(str(folder / "rows.npy")), quick("model.activation=linear", "fit.seed=5"), folder / "run")
    return folder / "run"


def test_reads_a_run_with_the_settings_that_it_began_with(tmp_path: Path) -> None:
    before = healthy_run(stale=3)
    state, settings = read_run(saved_run(tmp_path, before, {"config": {"fit": {"seed": 1}}}))
    assert (state.history, state.facts, state.stopped) == (before.history, before.facts, "finished")
    assert settings == {"config": {"fit": {"seed": 1}}, "data": ROWS}


@pytest.mark.parametrize("name", ["", "absent", "a file"])
def test_refuses_a_folder_without_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").write_text("no run")
    with pytest.raises(TrainingError) as caught:
        read_run(tmp_path / name)
    assert (caught.value.field, caught.value.found) == (str(tmp_path / name), "no checkpoint")


def test_names_the_damaged_file_of_a_run(tmp_path: Path) -> None:
    saved_run(tmp_path, healthy_run())
    flip_bit(tmp_path / "checkpoint-000030" / "manifest.json", 99)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_run(tmp_path)


def test_applies_the_first_advice_in_a_new_run(linear_run: Path) -> None:
    fixed, again = auto_fix(linear_run), auto_fix(linear_run)
    assert [done.folder for done in (fixed, again)] == [linear_run.with_name(f"run-fixed{n}") for n in ("", "-2")]
    assert (fixed.advice.cause, fixed.advice.settings) == ("missing-activations", ("model.activation=silu",))
    assert (fixed.before.facts["affine"], fixed.after.facts["affine"]) == (True, False)
    assert (fixed.folder / "encoder").is_dir()
    assert again.after.best_weights.keys() == fixed.after.best_weights.keys()


def test_accepts_a_run_given_as_the_current_folder(linear_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(linear_run)
    assert auto_fix(Path()).folder.parent == linear_run.parent


def test_changes_only_the_advised_settings(linear_run: Path) -> None:
    before, after = settings_of(linear_run), settings_of(auto_fix(linear_run).folder)
    activations = [settings["config"]["model"].pop("activation") for settings in (before, after)]
    assert activations == ["linear", "silu"]
    assert before == after  # includes the digest of the split rows


def test_refuses_rows_that_changed_since_the_run(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", blobs())
    train(open_rows(str(tmp_path / "rows.npy")), quick("model.activation=linear"), tmp_path / "run")
    np.save(tmp_path / "rows.npy", blobs(seed=1))
    with pytest.raises(DataError, match="expected the rows that the run was trained on, found different rows"):
        auto_fix(tmp_path / "run")
    assert not (tmp_path / "run-fixed").exists()


def test_skips_advice_that_is_already_applied(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", blobs())
    rows, config = open_rows(str(tmp_path / "rows.npy")), quick("model.activation=linear")
    digest = split_rows(rows, config, shown=False).digest()
    settings = {"config": json.loads(json.dumps(dataclasses.asdict(config)))}
    settings["data"] = {"name": str(tmp_path / "rows.npy"), "rows": 60, "sha256": digest}
    fixed = auto_fix(saved_run(tmp_path / "run", healthy_run(scale=9.0, affine=True), settings))  # already scaled
    assert fixed.advice.cause == "missing-activations"


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (healthy_run(), "a healthy run"),
        (healthy_run(scale=9.0), "unscaled-inputs, with the remedy: --set data.scale=auto"),  # already set
        (healthy_run(missing=["decoder.weight"]), "parameters-missing, with the remedy: Pass all parameters:"),
    ],
)
def test_trains_nothing_if_no_setting_fixes_the_run(tmp_path: Path, state: State, found: str) -> None:
    with pytest.raises(TrainingError) as caught:
        auto_fix(saved_run(tmp_path / "run", state))
    assert caught.value.found.startswith(found)
    assert caught.value.expected == "a finding that a change of settings can fix"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
