"""The output and the pictures of `explain` and `rates`."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lookalike.cli.explain import show_lesson, show_rates
from lookalike.lessons.catalogue import Lesson
from lookalike.lessons.picture import Curves
from lookalike.lessons.shown import Shown
from lookalike.training.config import load_config
from lookalike.training.errors import DataError, TrainingError
from tests.factories import blobs
from tests.lookalike.helpers import save


class Parabola(Lesson):
    """A lesson with one number and one curve."""

    def show(self, seed: int = 0) -> Shown:
        curves = Curves("A parabola", "x", "x squared", {"y": ([0.0, 1.0, 2.0], [0.0, 1.0, 4.0])})
        return Shown({"the value at 2": 4.0}, curves)


class MustNotRun(Lesson):
    """A lesson that fails if it runs."""

    def show(self, seed: int = 0) -> Shown:
        raise AssertionError


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=100, markup=False, highlight=False), text


def test_prints_a_lesson_s_numbers_and_draws_its_picture_as_text_and_png(tmp_path: Path) -> None:
    out, text = console()
    show_lesson(Parabola("parabola", "Parabolas", "# Parabolas"), tmp_path / "p.png", out)
    assert "4  the value at 2\n" in text.getvalue()
    assert "A parabola" in text.getvalue()
    assert f"picture: {tmp_path / 'p.png'}" in text.getvalue().replace("\n", "")
    with Image.open(tmp_path / "p.png") as picture:
        assert min(picture.size) > 100


def test_rates_prints_a_valid_set_option(tmp_path: Path) -> None:
    out, text = console()
    config = load_config(None, ["model.hidden=[8]", "fit.device=cpu"])
    show_rates(str(save(tmp_path / "r.npy", blobs(300))), config, tmp_path / "rates.png", out)
    line = text.getvalue().splitlines()[0].removeprefix("--set ")
    assert 1e-5 < load_config(None, [line]).optimizer.lr < 1
    assert (tmp_path / "rates.png").stat().st_size > 1_000


def test_rates_refuses_rows_without_variation(tmp_path: Path) -> None:
    same = save(tmp_path / "r.npy", np.ones((80, 6), np.float32))
    with pytest.raises(TrainingError, match="rows-alike"):
        show_rates(str(same), load_config(None), tmp_path / "rates.png", console()[0])
    assert not (tmp_path / "rates.png").exists()


def test_a_failed_picture_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_text("old")
    script = (
        "import resource, sys; from pathlib import Path; from lookalike.lessons.picture import Curves; "
        "from lookalike.lessons.png import save_png; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "save_png(Curves('a', 'x', 'y', {'l': ([0.0, 1.0], [0.0, 1.0])}), Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "p.png"], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert (tmp_path / "p.png").read_text() == "old"


def test_runs_no_experiment_if_the_picture_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file in an existing folder"):
        show_lesson(MustNotRun("t", "T", ""), tmp_path / "absent" / "p.png", Console(file=io.StringIO()))
