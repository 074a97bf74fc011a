"""The retraining command: its exit codes, its priority, and how it continues after it was killed."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lookalike.cli.retraining import BUSY, FAILED, KEPT, USER_ERROR
from lookalike.index.changes.change import Change
from lookalike.index.changes.log import ChangeLog
from lookalike.index.drift.drift import FOLDER as DRIFT
from lookalike.index.versions.store import Store
from lookalike.retraining.job import job_of, read_job
from tests.factories import log_changes
from tests.lookalike.helpers import Done, run
from tests.lookalike.retraining.test_run import BAD, GOOD, new_items

LONG = GOOD.replace("epochs = 25", "epochs = 4_000\npatience = 4_000")
HERE = ("--no-polite", "--threads", "1", "--device", "cpu")


def retrain(store: Store, *more: object) -> Done:
    return run("retrain", "--store", store.folder, *HERE, *more)


def settings(folder: Path, text: str) -> Path:
    (folder / "F.toml").write_text(text)
    return folder / "F.toml"


@contextmanager
def started(store: Store, *more: object) -> Iterator["subprocess.Popen[str]"]:
    """Run `lookalike retrain` in a separate process, and kill it at the end."""
    command = [sys.executable, "-m", "lookalike", "retrain", "--store", store.folder, *more]
    with subprocess.Popen([str(word) for word in command], stdout=-1, stderr=-1, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def test_exits_with_0_and_prints_the_reasons_if_promoted(store_copy: Store, tmp_path: Path) -> None:
    done = retrain(store_copy, "--config", settings(tmp_path, GOOD))
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("labels: 0.")
    assert any("champion 0." in line and "(95 %: " in line for line in lines)
    assert lines[-2].startswith("alignment: mapped embeddings of version 1 find 0.")
    assert lines[-1].startswith("promoted: version 2 replaces version 1: no worse by any measure")
    assert "held out of both trainings: 144" in done.err


def test_exits_with_10_if_the_champion_is_kept(store_copy: Store, tmp_path: Path) -> None:
    done = retrain(store_copy, "--config", settings(tmp_path, BAD))
    assert done.code == KEPT == 10
    assert done.out.splitlines()[-1].startswith("kept: version 1: by ")
    assert "DOES NOT HOLD" in done.out
    done = retrain(store_copy, "--if-drifted")
    assert (done.code, done.out) == (KEPT, "kept: version 1: the queries have not drifted\n")


@pytest.mark.parametrize(
    ("more", "text", "code", "about"),
    [
        ([], "[optimizer]\nkind = 'sgd'\nlr = 1e20\n", FAILED, "learning-rate-too-high"),
        ([], "[model]\nlatent = 3\n", USER_ERROR, "model.latent"),
        (["--data", "none.npy"], GOOD, USER_ERROR, "none.npy: expected a file"),
        (["--data", "digits:test"], GOOD, USER_ERROR, "found 360 rows instead of 1,437"),
        (["--keep", "0"], GOOD, USER_ERROR, "--keep: expected at least 1"),
        (["--threads", "0"], GOOD, USER_ERROR, "--threads: expected at least 1"),
    ],
)
def test_exits_with_1_for_a_failure_and_2_for_a_user_error(
    store_copy: Store, tmp_path: Path, more: list[str], text: str, code: int, about: str
) -> None:
    done = retrain(store_copy, "--config", settings(tmp_path, text), *more)
    assert (done.code, done.out) == (code, "")
    (line,) = (line for line in done.err.splitlines() if line.startswith("lookalike: "))
    assert about in line
    assert (FAILED, USER_ERROR) == (1, 2)
    assert store_copy.numbers() == [1]


def test_a_missing_store_is_a_user_error(tmp_path: Path) -> None:
    assert retrain(Store(tmp_path / "none")).code == USER_ERROR
    assert not (tmp_path / "none").exists()


def test_dry_run_prints_the_plan_and_changes_nothing(store_copy: Store) -> None:
    shutil.rmtree(store_copy.folder / DRIFT, ignore_errors=True)  # a service of another test may have served it
    log_changes(store_copy.folder, *new_items(0, 5), Change(store_copy.open(1).items.id_at(0)))
    before = {path: path.stat().st_mtime_ns for path in store_copy.folder.rglob("*") if "items.db" not in path.name}
    done = retrain(store_copy, "--dry-run")
    assert done.code == 0
    assert done.out.splitlines() == [
        *("version: 1", "queries: 0", "evidence: 10^0.0, drift from 10^6.0 on"),
        "false alarms: at most one in 1,000,000 normal queries, on average",
        *("drifted: no", "champion: version 1"),
        "rows: 1,441 of digits and the changes up to 6: 5 new, 0 replaced, 1 deleted",
        "held out of both trainings: 144",
        "settings: the champion's",
    ]
    assert retrain(store_copy, "--dry-run", "--if-drifted").code == KEPT
    after = {path: path.stat().st_mtime_ns for path in store_copy.folder.rglob("*") if "items.db" not in path.name}
    assert after == before


def test_a_second_job_exits_with_75_and_a_job_has_the_lowest_priority(store_copy: Store, tmp_path: Path) -> None:
    with started(store_copy, "--config", settings(tmp_path, LONG)) as first:
        wait_for((store_copy.folder / "retraining" / "run").exists, first)
        second = retrain(store_copy)
        assert second.code == BUSY == 75
        assert f"expected no job at work, found retrain, process {first.pid}" in second.err
        assert run("prune", "--store", store_copy.folder, "--keep", 1).code == 2
        assert os.getpriority(os.PRIO_PROCESS, first.pid) == 19
        assert os.sched_getscheduler(first.pid) == os.SCHED_IDLE
        first.kill()
        first.wait()
    with store_copy.job("prune"):  # the lock of a killed job is released
        pass


@pytest.mark.slow
def test_a_retraining_killed_during_training_continues_to_the_same_result(
    store_copy: Store, tiny_store: Store, tmp_path: Path
) -> None:
    config = settings(tmp_path, GOOD.replace("epochs = 25", "epochs = 120\npatience = 120"))
    last = log_changes(store_copy.folder, *new_items(0, 30))
    folder = store_copy.folder / "retraining" / "run"
    with started(store_copy, "--config", config, *HERE) as process:
        wait_for(lambda: any(folder.glob("checkpoint-*")), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    log_changes(store_copy.folder, *new_items(30, 40))
    assert store_copy.numbers() == [1]
    with started(store_copy, "--config", config, *HERE) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert f"continuing the interrupted retraining of the changes up to {last}" in err
    assert "has no checkpoint" not in err
    assert store_copy.manifest(2).sequence == last

    whole = Store(tmp_path / "whole")
    subprocess.run(["cp", "-r", tiny_store.folder, whole.folder], check=True)
    log_changes(whole.folder, *new_items(0, 30))
    with started(whole, "--config", config, *HERE) as process:
        assert process.wait(120) == 0
    weights = [store.path(2) / "encoder" / "weights.safetensors" for store in (store_copy, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    embeddings = [np.asarray(store.open(2).embeddings.vectors) for store in (store_copy, whole)]
    np.testing.assert_array_equal(embeddings[0], embeddings[1])


@pytest.mark.slow
def test_a_retraining_killed_during_the_build_continues_without_leftovers(store_copy: Store, tmp_path: Path) -> None:
    config = settings(tmp_path, GOOD)
    with started(store_copy, "--config", config, *HERE) as process:
        wait_for(lambda: any(store_copy.versions.glob(".lookalike-making-*/embeddings.npy")), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (store_copy.numbers(), store_copy.champion_number()) == ([1], 1)
    job = read_job(store_copy)
    assert job is not None
    done = retrain(store_copy, "--config", config)
    assert done.code == 0, done.err
    assert job_of(store_copy, 2) == job.token
    assert sorted(path.name for path in store_copy.versions.iterdir()) == ["000001", "000002"]
    assert list((store_copy.folder / "building").iterdir()) == []


def test_prune_prints_the_removed_versions(store_copy: Store, tmp_path: Path) -> None:
    for _ in range(3):
        assert retrain(store_copy, "--config", settings(tmp_path, BAD), "--force").code == 0
    log_changes(store_copy.folder, *new_items(0, 2))
    dry = run("prune", "--store", store_copy.folder, "--keep", 1, "--dry-run")
    assert (dry.code, json.loads(dry.out), store_copy.numbers()) == (0, [1, 2], [1, 2, 3, 4])
    done = run("prune", "--store", store_copy.folder, "--keep", 1)
    assert (done.code, done.out, store_copy.numbers()) == (0, dry.out, [3, 4])
    assert "removed 2 versions and 0 changes of the change log" in done.err
    assert ChangeLog(store_copy.folder).last() == 2
    assert run("prune", "--store", store_copy.folder, "--keep", 0).code == 2


def test_a_job_holds_a_kernel_lock(store_copy: Store) -> None:
    with store_copy.job("one"), (store_copy.folder / ".job").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
