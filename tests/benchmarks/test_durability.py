"""A few of the kills and faults of `benchmarks.durability`, and proof that it would detect a loss."""

from pathlib import Path

import pytest

from benchmarks.durability import interrupt
from benchmarks.failures import NotHeldError
from benchmarks.injected import Fault, can_trace
from benchmarks.killed import killed
from benchmarks.steps import SENT, Held
from lookalike.index.changes.log import LOG, ChangeLog

needs_strace = pytest.mark.skipif(not can_trace(), reason="no strace, or it may not trace")


@needs_strace
@pytest.mark.parametrize("name", ["first upsert", "upsert", "compact", "promote", "roll back"])
def test_nothing_is_lost_if_a_step_is_killed_or_the_disk_fails(tmp_path: Path, name: str) -> None:
    done, wrong = interrupt(name, tmp_path, ["kill", "ENOSPC once"], most=1)
    assert done.total() >= 4
    assert wrong == []


def test_nothing_is_lost_if_a_writer_is_killed() -> None:
    seen, wrong = killed(10, seed=1)
    assert (seen["kills"], wrong) == (10, [])


def test_a_fault_becomes_an_option_of_strace() -> None:
    assert Fault("kill", "fsync", 3).option == "inject=fsync:signal=SIGKILL:when=3"
    assert Fault("EIO from then on", "write", 2).option == "inject=write:error=EIO:when=2+"
    assert Fault("EIO five times", "write", 2).option == "inject=write:error=EIO:when=2..6"


def test_the_check_detects_losses_and_phantoms(tmp_path: Path) -> None:
    held = Held("upsert", tmp_path / "made")
    store = held.copy(tmp_path / "store")
    assert not held.check(store, [], killed=True)
    with pytest.raises(NotHeldError, match="acknowledged"):
        held.check(store, ["done"], killed=False)
    log = ChangeLog(store)
    log.append(SENT[:2])
    with pytest.raises(NotHeldError, match="2 changes of 3"):
        held.check(store, [], killed=True)
    log.close()
    (store / LOG).unlink()
    with pytest.raises(NotHeldError):
        held.check(store, [], killed=True)
    (store / "champion").unlink()
    with pytest.raises(NotHeldError, match="champion None"):
        held.check(store, [], killed=True)
