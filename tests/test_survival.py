"""A run that is killed, or whose disk is full, keeps complete files and continues to the same result."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.training.fit.checkpoint import latest_checkpoint
from tests.factories import ROOT

pytestmark = pytest.mark.slow
EPOCHS = 40
TRAIN = """
import resource, sys
from lookalike.training.fit import job
job.CHECKPOINT_SECONDS = 0.0
if limit := int(sys.argv.pop(1)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from lookalike.__main__ import main
main()
"""
SETTINGS = ("model.hidden=[8]", "model.latent_dim=3", "model.dropout=0.2", f"fit.epochs={EPOCHS}", "fit.patience=1000")


def started(run: Path, *more: str, limit: int = 0) -> subprocess.Popen[str]:
    """Run `lookalike train digits`, with a checkpoint after each epoch and no file beyond `limit` bytes (0: any)."""
    settings = [word for line in SETTINGS for word in ("--set", line)]
    command = [sys.executable, "-c", TRAIN, str(limit), "train", "digits", "--run", str(run), *settings, *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(60_000):
        if happened() or process.poll() is not None:
            break
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def epochs(run: Path) -> int:
    """The number of epochs in the newest checkpoint."""
    return max((int(folder.name.rpartition("-")[2]) for folder in run.glob("checkpoint-*")), default=0)


def weights(run: Path) -> bytes:
    return (run / "encoder" / "weights.safetensors").read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted; read only."""
    run = tmp_path_factory.mktemp("whole") / "run"
    code, errors = ended(started(run))
    assert code == 0, errors
    return run


def test_a_run_killed_repeatedly_ends_bit_for_bit_like_an_uninterrupted_run(whole: Path, tmp_path: Path) -> None:
    chance, run = random.Random(0), tmp_path / "run"
    for number in range(4):
        reached = epochs(run)
        process = started(run, "--resume")
        if number:
            further = reached + chance.randint(1, 6)
            wait_for(lambda further=further: epochs(run) >= further, process)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))  # anywhere in an epoch, or during the write of a checkpoint
        else:
            wait_for(run.exists, process)  # before the first checkpoint
        process.kill()
        assert ended(process)[0] == -signal.SIGKILL
        assert not (run / "encoder").exists()
    assert latest_checkpoint(run) is not None
    code, errors = ended(started(run, "--resume"))
    assert code == 0, errors
    assert epochs(run) == EPOCHS
    assert weights(run) == weights(whole)
    assert {path.name.partition("-")[0] for path in run.iterdir()} == {".lock", "checkpoint", "encoder", "progress.log"}


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_resumes(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(run)
    wait_for(lambda: epochs(run) >= 3, process)
    process.kill()
    ended(process)
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    before, reached = files(checkpoint.folder), epochs(run)
    code, errors = ended(started(run, "--resume", limit=1_000))
    last = errors.strip().splitlines()[-1]
    assert code == 2, errors
    assert last.startswith(f"lookalike: {run}: expected room for the checkpoint of epoch {reached + 1}, found File too")
    assert "--resume" in last
    assert "Traceback" not in errors
    assert files(checkpoint.folder) == before
    names = {path.name.partition("-")[0] for path in run.iterdir()}
    assert names == {".lock", "checkpoint", "progress.log"}  # no partial files
    assert latest_checkpoint(run) is not None
    assert ended(started(run, "--resume"))[0] == 0
    assert weights(run) == weights(whole)


def test_a_disk_full_at_the_end_keeps_the_run_and_only_the_export_is_repeated(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "encoder")
    code, errors = ended(started(run, "--resume", limit=1_000))
    assert code == 2, errors
    assert "expected room for the encoder" in errors
    assert epochs(run) == EPOCHS
    assert ended(started(run, "--resume"))[0] == 0
    assert weights(run) == weights(whole)
