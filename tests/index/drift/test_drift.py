import contextlib
import itertools
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.drift.detector import Bets, Detector, Evidence
from lookalike.index.drift.drift import FOLDER, Drift, DriftFile, DriftState, drift_of, read_drift
from lookalike.index.errors import StoreError
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.errors import ArtifactError
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows

Files = Callable[[Path], DriftFile]
Wrote = Callable[[Path, DriftState], DriftFile]

BETS = Bets(143)
HOLDER = """
import sys
from pathlib import Path
import numpy as np
from lookalike.index.drift.detector import Bets, Detector, Evidence
from lookalike.index.drift.drift import DriftFile, DriftState
bets = Bets(143)
one = Detector(bets, Evidence.none(bets, 0.0))
one.add(np.full(7, 0.5), 1.0)
file = DriftFile(Path(sys.argv[1]))
file.write(DriftState(3, "three", bets, one.evidence))
print("done", flush=True)
sys.stdin.read()
"""


def seen(
    p: float = 0.5, count: int = 10, calibration: str = "three", once_in: float = 1e6, rows: int = 143
) -> DriftState:
    bets = Bets(rows)
    one = Detector(bets, Evidence.none(bets, 0.0), once_in)
    one.add(np.full(count, p), 100.0)
    return DriftState(3, calibration, bets, one.evidence, once_in)


@pytest.fixture
def files() -> Iterator[Files]:
    """Makes files, and closes them as the end of their processes would."""
    with contextlib.ExitStack() as stack:

        def make(folder: Path) -> DriftFile:
            file = DriftFile(folder)
            stack.callback(file.close)
            return file

        yield make


@pytest.fixture
def wrote(files: Files) -> Wrote:
    def write(folder: Path, what: DriftState) -> DriftFile:
        file = files(folder)
        file.write(what)
        return file

    return write


def test_without_files_nothing_is_known(tmp_path: Path) -> None:
    assert read_drift(tmp_path / "none", 3, "three") == Drift(3)
    assert not Drift(3).drifted


def test_what_one_process_knows_is_read_back(tmp_path: Path, wrote: Wrote) -> None:
    wrote(tmp_path, seen(0.001, 5))
    drift = read_drift(tmp_path, 3, "three")
    won = np.exp(BETS.won)
    stakes = [sum(w**n for n in range(1, 6)) for w in won]  # a stake of 1 came with each query, and all won since
    assert 10**drift.evidence == pytest.approx(np.mean(stakes))
    best = int(np.argmax(stakes))
    assert drift == Drift(
        *(3, 5, 1, drift.evidence, 1e6),
        alarm=None,
        since=0.0,  # all luck, since the start
        level=BETS.levels[best],
        rate=BETS.rates[best],
        asked=5,
        strange=5,
    )


def test_a_file_can_be_read_by_a_person(tmp_path: Path, wrote: Wrote) -> None:
    wrote(tmp_path, seen(0.001, 50))
    found = json.loads((tmp_path / "0.json").read_text())
    told = {name: found[name] for name in ("version", "calibration", "calibration_rows", "queries", "alarm_at")}
    assert told == {"version": 3, "calibration": "three", "calibration_rows": 143, "queries": 50, "alarm_at": 100.0}
    assert found["once_in"] == 1e6
    assert found["evidence"] > 6
    assert found["changed_since"] == 0.0


def test_processes_are_told_together(tmp_path: Path, wrote: Wrote) -> None:
    parts = [seen(0.001, 8), seen(0.5, 30), seen(0.001, 8)]
    for part in parts:
        wrote(tmp_path, part)
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.processes, drift.asked, drift.strange) == (46, 3, 8, 8)
    assert drift.evidence == pytest.approx(math.log10(sum(math.exp(part.evidence.total) for part in parts)))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{n}.{kind}" for n in range(3) for kind in ("json", "lock")
    )


def test_it_is_drift_once_all_together_reach_what_an_alarm_asks_for(tmp_path: Path, wrote: Wrote) -> None:
    once_in = 1.5 * math.exp(seen(0.001, 8).evidence.total)
    wrote(tmp_path, seen(0.001, 8, once_in=once_in))
    assert not read_drift(tmp_path, 3, "three").drifted
    wrote(tmp_path, seen(0.001, 8, once_in=once_in))
    both = read_drift(tmp_path, 3, "three")
    assert (both.alarm, both.drifted) == (None, True)


def test_an_alarm_of_one_process_is_all_processes(tmp_path: Path, wrote: Wrote) -> None:
    alarmed = seen(0.001, 100)._replace(once_in=1e300)
    wrote(tmp_path, alarmed)
    wrote(tmp_path, seen())
    assert (read_drift(tmp_path, 3, "three").alarm, read_drift(tmp_path, 3, "three").drifted) == (100.0, True)


def test_other_calibrations_do_not_count(tmp_path: Path, wrote: Wrote) -> None:
    wrote(tmp_path, seen(0.001, 100, "two"))
    wrote(tmp_path, seen(count=4))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.processes, drift.drifted, drift.damaged) == (4, 1, False, ())


def test_a_process_goes_on_from_what_dead_ones_left(tmp_path: Path, wrote: Wrote, files: Files) -> None:
    parts = [seen(0.001, 8), seen(0.5, 30), seen(0.001, 8, "two")]
    for file in [wrote(tmp_path, part) for part in parts]:
        file.close()
    late = files(tmp_path)
    taken = late.take_over("three")
    assert taken is not None
    assert taken.evidence.queries == 38
    assert math.exp(taken.evidence.total) == pytest.approx(sum(math.exp(part.evidence.total) for part in parts[:2]))
    assert list(tmp_path.glob("*.json")) == []
    assert late.take_over("three") is None
    late.write(taken)
    assert read_drift(tmp_path, 3, "three").queries == 38


def test_what_a_living_process_has_is_left_to_it_and_what_a_killed_one_had_is_not(tmp_path: Path, files: Files) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], text=True, **pipes) as popen:  # type: ignore[call-overload]
        try:
            assert popen.stdout.readline() == "done\n"
            mine = files(tmp_path)
            assert mine.take_over("three") is None
            mine.write(seen(count=4))
            assert [state.evidence.queries for state in mine.others("three")[0]] == [7]
            assert read_drift(tmp_path, 3, "three").queries == 11
        finally:
            popen.kill()
    assert read_drift(tmp_path, 3, "three").queries == 11
    taken = mine.take_over("three")
    assert taken is not None
    assert taken.evidence.queries == 11
    assert mine.others("three") == ([], ())


def test_a_file_cut_short_anywhere_is_ignored_and_told(tmp_path: Path, wrote: Wrote) -> None:
    wrote(tmp_path, seen(0.001, 100))
    wrote(tmp_path, seen(count=4))
    path = tmp_path / "0.json"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:length])
        drift = read_drift(tmp_path, 3, "three")
        assert (drift.queries, drift.drifted, len(drift.damaged)) == (4, False, 1), length
        assert str(path) in drift.damaged[0]


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "lookalike-drift-0"},
        {"version": "3"},
        {"version": True},
        {"calibration": 3},
        {"calibration": None},
        {"calibration_rows": 19},
        {"calibration_rows": -1},
        {"calibration_rows": 1e3},
        {"queries": 99},
        {"queries": None},
        {"once_in": "many"},
        {"alarm_at": math.inf},
        {"alarm_at": []},
        {"alarm_at": 1e12},
        {"alarm_at": -1},
        {"bets": {}},
        {"bets": 7},
    ],
)
def test_a_file_of_another_making_is_ignored_and_told(
    tmp_path: Path, damage: dict[str, object], wrote: Wrote, files: Files
) -> None:
    wrote(tmp_path, seen(0.001, 100)).close()
    path = tmp_path / "0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.drifted, len(drift.damaged)) == (0, False, 1)
    assert files(tmp_path).take_over("three") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(
            ["logs", "since", "asked", "strange"], [[], [1.0], None, "x", [math.nan] * 15, [[1] * 15], [10**400] * 15]
        ),
        *itertools.product(["since", "asked", "strange"], [[-1] * 15]),
        *itertools.product(["asked", "strange"], [[101] * 15]),
        ("since", [1e12] * 15),
    ],
)
def test_bets_of_another_making_are_ignored_and_told(tmp_path: Path, name: str, value: object, wrote: Wrote) -> None:
    wrote(tmp_path, seen(0.001, 100)).close()
    path = tmp_path / "0.json"
    found = json.loads(path.read_text())
    found["bets"][name] = value
    path.write_text(json.dumps(found))
    assert len(read_drift(tmp_path, 3, "three").damaged) == 1


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"[" * 60_000, b"\xff\xfe", b" " * 70_000, b'{"format": 3}'])
def test_what_is_no_state_is_ignored_and_told(tmp_path: Path, text: bytes, files: Files) -> None:
    (tmp_path / "0.json").write_bytes(text)
    assert len(read_drift(tmp_path, 3, "three").damaged) == 1
    assert files(tmp_path).take_over("three") is None


def test_states_of_other_calibration_rows_do_not_mix(tmp_path: Path, wrote: Wrote) -> None:
    wrote(tmp_path, seen())
    wrote(tmp_path, seen(rows=1_000))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, len(drift.damaged)) == (10, 1)


def test_a_half_written_file_does_not_count(tmp_path: Path, wrote: Wrote) -> None:
    file = wrote(tmp_path, seen(count=4))
    left = tmp_path / ".lookalike-making-killed"
    left.mkdir()
    (left / "0.json").write_text("{")
    assert read_drift(tmp_path, 3, "three") == read_drift(tmp_path, 3, "three")
    assert read_drift(tmp_path, 3, "three").damaged == ()
    file.write(seen(count=5))
    assert read_drift(tmp_path, 3, "three").queries == 5
    assert not left.exists()


def test_without_calibration_rows_queries_are_counted(tmp_path: Path, wrote: Wrote) -> None:
    wrote(tmp_path, seen(1.0, rows=0))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.evidence, drift.since, drift.drifted) == (10, -math.inf, None, False)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, files: Files) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        files(tmp_path / "file" / "drift").write(seen())
    assert read_drift(tmp_path / "file" / "drift", 3, "three") == Drift(3)


def test_a_stores_drift_is_its_champions(store_copy: Store, wrote: Wrote) -> None:
    shutil.rmtree(store_copy.folder / FOLDER, ignore_errors=True)  # a service of another test may have served it
    wrote(store_copy.folder / FOLDER, seen(count=4, calibration=store_copy.open_champion().calibration))
    wrote(store_copy.folder / FOLDER, seen(0.001, 100))
    drift = drift_of(store_copy)
    assert (drift.version, drift.queries, drift.drifted) == (1, 4, False)


def test_an_alarm_outlives_a_compaction_and_not_another_encoder(
    store_copy: Store, tmp_path: Path, wrote: Wrote
) -> None:
    shutil.rmtree(store_copy.folder / FOLDER, ignore_errors=True)
    wrote(store_copy.folder / FOLDER, seen(0.001, 100, store_copy.open_champion().calibration))
    log = ChangeLog(store_copy.folder)
    log.append([Change(store_copy.open_champion().items.id_at(0))])
    log.close()
    assert compact(store_copy) == 2
    drift = drift_of(store_copy)
    assert (drift.version, drift.queries, drift.alarm, drift.drifted) == (2, 100, 100.0, True)
    (tmp_path / "other.toml").write_text('[model]\nhidden = [8]\nlatent_dim = 2\n[fit]\nepochs = 1\ndevice = "cpu"\n')
    train(open_rows("digits"), load_config(tmp_path / "other.toml"), tmp_path / "other")
    store_copy.promote(build(open_rows("digits"), tmp_path / "other", store_copy, target=Target(key="Flat")))
    assert drift_of(store_copy) == Drift(3)


def test_a_champion_whose_manifest_is_damaged_has_no_drift_to_tell(store_copy: Store) -> None:
    (store_copy.path(1) / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="manifest"):
        drift_of(store_copy)


def test_a_store_without_a_champion_has_no_drift(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="promote"):
        drift_of(Store(tmp_path))
