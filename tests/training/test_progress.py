import contextlib
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lookalike.training import progress
from lookalike.training.progress import progress_bar


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def wait_until(happened: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not happened():
        pause.wait(0.01)


def test_without_a_terminal_short_work_prints_one_line_at_the_end_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("reading", 3_000, "rows") as advance:
        for number in range(3):
            advance(1_000, f"number {number}")
        assert capsys.readouterr().err == ""
    captured = capsys.readouterr()
    assert re.fullmatch(r"reading: 3,000/3,000 rows, \S+ rows/s, 0:00:0\d in all, number 2\n", captured.err)
    assert captured.out == ""


def test_long_work_prints_a_line_at_intervals_also_if_no_step_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    log = tmp_path / "progress.log"
    with progress_bar("training", 4, "epochs", done=1, log=log) as advance:
        wait_until(log.exists)
        advance(0.5)
        count = len(log.read_text().splitlines())
        wait_until(lambda: len(log.read_text().splitlines()) > count + 1)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"training: 1/4 epochs, - epochs/s, unknown left", lines[0])
    assert re.fullmatch(r"training: 1\.50/4 epochs, \S+ epochs/s, 0:00:\d\d left", lines[-2])
    assert re.fullmatch(r"training: 1\.50/4 epochs, \S+ epochs/s, 0:00:\d\d in all", lines[-1])
    logged = log.read_text().splitlines()
    assert [line.partition(" ")[2] for line in logged] == lines
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", logged[0].partition(" ")[0])


def test_work_that_fails_before_it_begins_prints_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (0, 2):
        with contextlib.suppress(KeyError), progress_bar("reading", 3, "rows") as advance:
            advance(steps)
            raise KeyError
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reading: 2/3 rows, ")


def test_a_log_that_cannot_be_written_does_not_end_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", 1, "epochs", log=tmp_path) as advance:
        advance(1)
    assert "1/1" in capsys.readouterr().err


def test_a_hidden_bar_prints_nothing_and_still_writes_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("training", 1, "epochs", shown=False, log=tmp_path / "log") as advance:
        advance(1)
    assert capsys.readouterr().err == ""
    assert "training: 1/1 epochs" in (tmp_path / "log").read_text()


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar("reading", 2, "rows") as advance:
        advance(2)
    assert "━" in capsys.readouterr().err


def test_a_note_stays_until_the_next_note(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", 2, "epochs") as advance:
        advance(1, "loss 0.5")
        advance(1)
    assert capsys.readouterr().err.rstrip().endswith("loss 0.5")


def test_interrupted_work_shows_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(ZeroDivisionError), progress_bar("reading", 4, "rows") as advance:
        advance(1)
        advance(1 // 0)
    assert "1/4" in capsys.readouterr().err
