from contextlib import suppress

import pytest

from lookalike.training.progress import progress_bar


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_without_a_terminal_it_prints_one_line_at_the_end_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading", 3, "rows") as advance:
        for number in range(3):
            advance(1, f"number {number}")
        assert capsys.readouterr().err == ""
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.split()[0] == "reading"
    assert "3/3" in line
    assert "rows/s" in line
    assert line.rstrip().endswith("number 2")
    assert captured.out == ""


def test_a_note_stays_until_the_next_note(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", 2, "epochs") as advance:
        advance(1, "loss 0.5")
        advance(1)
    assert capsys.readouterr().err.rstrip().endswith("loss 0.5")


def test_an_interrupted_bar_shows_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(ZeroDivisionError), progress_bar("reading", 4, "rows") as advance:
        advance(1)
        advance(1 // 0)
    assert "1/4" in capsys.readouterr().err
